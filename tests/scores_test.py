"""Tables from per-image scores, against scikit-learn on the pixels themselves."""

import csv
import io

import numpy as np
from sklearn import metrics

from jaxlung import scores as scores_lib
from jaxlung.data import record, resize
from jaxlung.metrics import overlap
from jaxlung.tasks import mask, three_level


class Records:
    """Records of the given masks; images are blank."""

    def __init__(self, masks):
        self._masks = masks

    def __len__(self):
        return len(self._masks)

    def __getitem__(self, index):
        mask = self._masks[index]
        group = "even" if index % 2 == 0 else "odd"
        return record.Record(np.zeros_like(mask), mask, f"i{index}", f"p{index // 2}", group)


def make_output(task, item, probs):
    levels = task.true_levels(item)
    preds = task.postprocess(probs[..., None])
    return {
        "loss": 0.5,
        "loss_excess": 0.25,
        "mse": float(probs.mean()),
        "mae": float(probs.max()),
        "confusion": overlap.confusion_of_one(levels, preds, len(task.levels)),
        "probs": probs,
    }


def collect(task, masks, probs):
    outputs = [make_output(task, m, p) for m, p in zip(masks, probs, strict=True)]
    return scores_lib.collect(task, outputs, Records(masks), "squash")


def draw(num=4, size=9):
    np_rng = np.random.default_rng(0)
    masks = np_rng.integers(0, 4, (num, size, size)).astype(np.uint8)
    return masks, np_rng.random((num, size, size), np.float32)


def test_split_scores_are_sklearns_over_all_pixels():
    task = three_level.make_task()
    masks, probs = draw()
    got = scores_lib.summarise(task, collect(task, masks, probs), slice(None))
    true = np.select([masks >= 2, masks == 1], [2, 1], 0).ravel()
    preds = np.select([probs > 190 / 255, probs > 62.5 / 255], [2, 1], 0).ravel()
    np.testing.assert_allclose(got["f1_macro"], metrics.f1_score(true, preds, average="macro"))
    np.testing.assert_allclose(
        got["iou_micro"], metrics.jaccard_score(true, preds, average="micro")
    )
    np.testing.assert_allclose(got["mse"], probs.mean(axis=(1, 2)).mean(), rtol=1e-6)
    assert not [name for name in got if name.endswith("_stored")]


def test_groups_are_scored_by_themselves():
    task = three_level.make_task()
    masks, probs = draw(num=5)
    groups = scores_lib.summarise_groups(task, collect(task, masks, probs))
    alone = collect(task, masks[1::2], probs[1::2])
    want = scores_lib.summarise(task, alone, slice(None))
    assert groups["odd"]["num_images"] == 2
    np.testing.assert_allclose(list(groups["odd"]["scores"].values()), list(want.values()))


def test_the_csv_has_a_row_per_image_with_its_own_dice():
    task = mask.make_task(target="lung", threshold=0.5)
    masks, probs = draw()
    rows = list(csv.DictReader(io.StringIO(scores_lib.to_csv(task, collect(task, masks, probs)))))
    assert [row["image_id"] for row in rows] == ["i0", "i1", "i2", "i3"]
    assert [row["patient_id"] for row in rows] == ["p0", "p0", "p1", "p1"]
    want = [
        metrics.f1_score((m & 1).ravel(), (p > 0.5).ravel())
        for m, p in zip(masks, probs, strict=True)
    ]
    np.testing.assert_allclose([float(row["dice"]) for row in rows], want)


def test_scores_at_the_stored_size_undo_the_resizing():
    """A mask that the network gets right at its own size is nearly right at any stored size."""
    task = mask.make_task(target="lung", threshold=0.5)
    row, column = np.mgrid[:90, :60]
    disc = (np.hypot(row - 40, column - 25) < 18).astype(np.uint8)
    _, small = resize.fit(disc, disc, 32, "squash")
    outputs = [make_output(task, small, small.astype(np.float32))]
    scores = scores_lib.summarise(
        task, scores_lib.collect(task, outputs, Records([disc]), "squash"), slice(None)
    )
    assert scores["dice"] == 1
    assert 0.95 < scores["dice_stored"] < 1
