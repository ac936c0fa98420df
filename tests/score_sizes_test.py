"""Scores by how much is annotated, against scikit-learn on the pixels themselves."""

import json

import numpy as np
import pytest
from sklearn import metrics

from jaxlung.evaluation import scores as scores_lib
from jaxlung.tasks import diagnosis, mask, three_level

TASKS = {
    "mask": mask.make_task(target="lung", threshold=0.5, loss="bce", alpha=0.5),
    "three_level": three_level.make_task(),
    "diagnosis": diagnosis.make_task(lungs="none", crop_pixels=(0, 0, 0), threshold=0.5),
}


def make_scores(task, levels, preds, **means):
    """Of [N, P] levels and predictions; two images of every patient."""
    num = len(levels)
    labels = range(len(task.levels))
    confusions = np.array(
        [metrics.confusion_matrix(*pair, labels=labels) for pair in zip(levels, preds, strict=True)]
    )
    return scores_lib.SplitScores(
        ids={"patient_id": np.array([f"p{i // 2}" for i in range(num)])},
        means=means,
        confusions=confusions,
        stored=confusions,
        at_thresholds=np.zeros((num, 0, 2, 2), np.int64),
        probs=np.full(num, np.nan),
        bin_counts=np.zeros((num, 0, 2), np.int64),
        bin_sums=np.zeros((num, 0)),
        before_counts=np.zeros((num, 0, 2), np.int64),
        before_sums=np.zeros((num, 0)),
    )


def draw(num, highest):
    """An image of each size from 0 to `num` - 1 pixels, shuffled; in every third none is found."""
    np_rng = np.random.default_rng(0)
    levels, preds = np_rng.integers(0, highest, (2, num, 60))
    for i in range(num):
        levels[i, :i] = highest
        preds[i, np_rng.random(60) < i / 60] = highest
    preds[::3] = 0
    order = np_rng.permutation(num)
    return levels[order], preds[order]


@pytest.mark.parametrize("name", ["mask", "three_level"])
def test_quartiles_have_sklearns_means_of_the_highest_level(name):
    task = TASKS[name]
    highest = len(task.levels) - 1
    levels, preds = draw(17, highest)
    got = scores_lib.summarise_sizes(task, make_scores(task, levels, preds))
    assert got["unit"] == "pixels"
    true, found = levels == highest, preds == highest
    sizes = true.sum(axis=1)
    for number, quartile in enumerate(got["quartiles"]):
        low, high = 4 * number + 1, 4 * number + 4
        assert quartile["range"] == [low, high]
        here = np.flatnonzero((sizes >= low) & (sizes <= high))
        assert quartile["num_images"] == len(here) == 4
        assert quartile["num_nothing_found"] == sum(not found[i].any() for i in here)
        for key, function in (("dice", metrics.f1_score), ("iou", metrics.jaccard_score)):
            want = np.mean([function(true[i], found[i], zero_division=0) for i in here])
            assert quartile["scores"][key] == pytest.approx(want)
            ends = quartile["intervals"][key]
            assert ends[0] <= want <= ends[1]
    assert got["without"] == {"num_images": 1, "num_nothing_found": 1}
    json.dumps(got, allow_nan=False)


def test_images_without_any_stand_by_themselves():
    levels, preds = draw(9, 1)
    preds[0] = 1
    empty = np.concatenate([levels, 0 * levels]), np.concatenate([preds, preds])
    got = scores_lib.summarise_sizes(TASKS["mask"], make_scores(TASKS["mask"], *empty))
    assert [part["num_images"] for part in got["quartiles"]] == [2] * 4
    found = preds.any(axis=1)
    assert got["without"] == {
        "num_images": 10,
        "num_nothing_found": int((~found).sum() + (~found & (levels.sum(axis=1) == 0)).sum()),
    }


def test_sizes_of_volumes_are_their_ml():
    """The one with fewest voxels has the largest ones."""
    levels, preds = draw(17, 1)
    voxels = levels.sum(axis=1)
    ml = np.where(voxels > 0, 100.0 - voxels, 0)
    scores = make_scores(TASKS["mask"], levels, preds, true_volume_ml=ml)
    got = scores_lib.summarise_sizes(TASKS["mask"], scores)
    assert got["unit"] == "mL"
    ranges = [part["range"] for part in got["quartiles"]]
    assert ranges == [[84, 87], [88, 91], [92, 95], [96, 99]]


def test_intervals_are_of_patients():
    """All images of one: nothing is known of others."""
    scores = make_scores(TASKS["mask"], *draw(17, 1))
    scores.ids["patient_id"][:] = "p"
    for part in scores_lib.summarise_sizes(TASKS["mask"], scores)["quartiles"]:
        assert set(map(tuple, part["intervals"].values())) == {(None, None)}


def test_few_images_with_foreground_and_images_as_a_whole_have_no_sizes():
    task = TASKS["mask"]
    assert scores_lib.summarise_sizes(task, make_scores(task, *draw(8, 1))) == {}
    assert scores_lib.summarise_sizes(task, make_scores(task, *draw(9, 1)))
    yes = np.ones((20, 1), int)
    assert scores_lib.summarise_sizes(TASKS["diagnosis"], make_scores(task, yes, yes)) == {}
