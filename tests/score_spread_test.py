"""The standard deviation of scores over the images of a split."""

import json
import statistics

import numpy as np
import pytest

from jaxlung.evaluation import scores as scores_lib
from jaxlung.metrics import overlap
from jaxlung.tasks import three_level, volume_mask

TASK = volume_mask.make_task(
    target="infection", region="lung", threshold=0.5, loss="bce_dice", alpha=0.5
)


def make_scores(confusions, hd95, patients=None):
    num = len(confusions)
    ids = np.array([f"c{i}" for i in range(num)])
    confusions = np.array(confusions)
    return scores_lib.SplitScores(
        ids={"image_id": ids, "patient_id": ids if patients is None else np.array(patients)}
        | {"group": np.full(num, "a")},
        means={"hd95": np.array(hd95)},
        confusions=confusions,
        stored=confusions,
        at_thresholds=np.zeros((num, 19, 2, 2), np.int64),
        probs=np.full(num, np.nan),
        bin_counts=np.zeros((num, 0, 2), np.int64),
        bin_sums=np.zeros((num, 0)),
        before_counts=np.zeros((num, 0, 2), np.int64),
        before_sums=np.zeros((num, 0)),
    )


CONFUSIONS = [[[90, 4], [2, 4]], [[80, 0], [5, 15]], [[70, 10], [0, 20]]]
DICE = [2 * 4 / (8 + 6), 2 * 15 / (30 + 5), 2 * 20 / (40 + 10)]


def test_it_is_the_sample_standard_deviation_over_images_not_people():
    scores = make_scores(CONFUSIONS, [3.0, 5.0, 10.0], ["p", "p", "q"])
    sd = scores_lib.summarise(TASK, scores)["sd"]
    assert sd["dice"] == pytest.approx(statistics.stdev(DICE))
    assert sd["hd95"] == pytest.approx(statistics.stdev([3, 5, 10]))
    assert sd.keys() == {"hd95", *overlap.binary_scores(np.array(CONFUSIONS))}


def test_undefined_scores_are_left_out_and_one_alone_has_none():
    summary = scores_lib.summarise(TASK, make_scores(CONFUSIONS, [3.0, np.nan, 10.0]))
    assert summary["sd"]["hd95"] == pytest.approx(statistics.stdev([3, 10]))
    two = make_scores(CONFUSIONS[:2], [np.nan, 10.0])
    assert scores_lib.spread(TASK, two)["hd95"] is None
    one = scores_lib.summarise(TASK, make_scores(CONFUSIONS[:1], [3.0]))
    assert set(one["sd"].values()) == {None}
    json.dumps(one, allow_nan=False)


def test_a_task_whose_table_has_no_means_has_none():
    levels = np.tile(np.eye(3, dtype=np.int64), (2, 1, 1))
    assert (
        scores_lib.summarise(three_level.make_task(), make_scores(levels, [1.0, 2.0]))["sd"] == {}
    )
