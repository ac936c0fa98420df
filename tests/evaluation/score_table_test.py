"""Scores of a split computed from its table: those of the summary, also for parts and weights."""

import csv
import io

import numpy as np
import pytest
from sklearn import metrics

from jaxlung.data import record
from jaxlung.evaluation import score_table
from jaxlung.evaluation import scores as scores_lib
from jaxlung.tasks import three_level
from tests.evaluation import scores_test

TASKS = {"mask": scores_test.LUNGS, "levels": three_level.make_task(), "covid": scores_test.COVID}


def collect(name):
    if name == "covid":
        return scores_test.collect_diagnoses()[0]
    return scores_test.collect(TASKS[name], *scores_test.draw(num=6))


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", TASKS)
def test_a_table_gives_every_score_of_its_summary(name):
    task, scores = TASKS[name], collect(name)
    num = len(scores.ids["image_id"])
    want = scores_lib.summarise(task, scores)["scores"]
    table = score_table.parse(task, read(score_table.to_csv(task, scores)))
    got = table.score(np.ones((1, num), np.int32))
    assert got.keys() == want.keys()
    for key, score in want.items():
        np.testing.assert_allclose(got[key], np.nan if score is None else score, rtol=1e-12)


@pytest.mark.parametrize("name", TASKS)
def test_weights_pick_images(name):
    task, scores = TASKS[name], collect(name)
    which = np.arange(len(scores.ids["image_id"])) % 3 > 0
    want = scores_lib.summarise_part(task, scores, which)["scores"]
    table = score_table.parse(task, read(score_table.to_csv(task, scores)))
    got = table.score(which[None].astype(np.int32))
    for key, score in want.items():
        np.testing.assert_allclose(got[key], np.nan if score is None else score, rtol=1e-12)


def test_pooled_scores_count_the_pixels_of_all_images():
    masks, probs = scores_test.draw(num=5)
    task = scores_test.LUNGS
    rows = read(score_table.to_csv(task, scores_test.collect(task, masks, probs)))
    got = score_table.parse(task, rows).score(np.ones((1, 5), np.int32))
    levels, preds = (masks & record.LUNG).ravel() > 0, (probs > 0.5).ravel()
    np.testing.assert_allclose(got["dice_pooled"], metrics.f1_score(levels, preds))
    np.testing.assert_allclose(got["sensitivity_pooled"], metrics.recall_score(levels, preds))
    counts = np.array(
        [[int(row[f"count_{t}_{p}"]) for row in rows] for t in (0, 1) for p in (0, 1)]
    )
    want = metrics.confusion_matrix(levels, preds).ravel()
    np.testing.assert_array_equal(counts.sum(axis=1), want)


def test_a_table_of_an_earlier_version_has_no_pooled_scores():
    task = scores_test.LUNGS
    rows = read(score_table.to_csv(task, collect("mask")))
    older = [{k: x for k, x in row.items() if not k.startswith("count_")} for row in rows]
    got = score_table.parse(task, older).score(np.ones((1, 6), np.int32))
    assert "dice" in got
    assert "dice_pooled" not in got


def test_the_mean_of_a_score_of_single_images_is_not_taken_for_the_score_of_the_split():
    """Three levels: `f1_macro` of a split is of its pooled pixels, and a column has the images'."""
    task = TASKS["levels"]
    rows = read(score_table.to_csv(task, collect("levels")))
    pooled = scores_lib.summarise(task, collect("levels"))["scores"]["f1_macro"]
    assert np.mean([float(row["f1_macro"]) for row in rows]) != pytest.approx(pooled)
    without = [{k: x for k, x in row.items() if not k.startswith("count_")} for row in rows]
    assert "f1_macro" not in score_table.parse(task, without).means


def test_images_of_the_networks_size_stand_for_their_stored_size():
    rows = [
        {"image_id": "a", "patient_id": "a", "dice": "0.5", "dice_stored": "0.25"},
        {"image_id": "b", "patient_id": "b", "dice": "0.75"},
    ]
    table = score_table.parse(scores_test.LUNGS, rows)
    np.testing.assert_array_equal(table.means["dice_stored"], [0.25, 0.75])
