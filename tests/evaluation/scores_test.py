"""Tables from per-image scores, against scikit-learn on the pixels themselves."""

import csv
import dataclasses
import io
import itertools
import json
import math

import numpy as np
import pytest
from sklearn import calibration as sklearn_calibration
from sklearn import metrics

from jaxlung.data import record
from jaxlung.data.transforms import resize
from jaxlung.evaluation import score_table
from jaxlung.evaluation import scores as scores_lib
from jaxlung.metrics import overlap
from jaxlung.tasks import diagnosis, mask, three_level, volume_mask
from jaxlung.training import train_step

LUNGS = mask.make_task(target="lung", threshold=0.5, loss="bce", alpha=0.5)
COVID = diagnosis.make_task(lungs="none", crop_pixels=(0, 0, 0), threshold=0.5)


class Records:
    """Records of the given masks, two a patient; images are blank."""

    def __init__(self, masks, labels=None):
        self._masks, self._labels = masks, np.zeros(len(masks), int) if labels is None else labels

    def __len__(self):
        return len(self._masks)

    def __getitem__(self, index):
        mask = self._masks[index]
        group = "even" if index % 2 == 0 else "odd"
        ids = (f"i{index}", f"p{index // 2}", group)
        return record.Record(np.zeros_like(mask), mask, *ids, label=int(self._labels[index]))


def make_output(task, item, probs, label=0):
    """As `Step.evaluate` gives for one image."""
    levels = task.true_levels(item[None], np.array([label]))[0]
    preds = task.postprocess(probs[None, ..., None])[0]
    output = {
        "loss": 0.5,
        "loss_excess": 0.25,
        "mse": float(probs.mean()),
        "mae": float(probs.max()),
        "confusion": overlap.confusion_of_one(levels, preds, len(task.levels)),
        "probs": probs,
        "levels": levels,
    }
    if task.is_binary_map:
        output["threshold_confusions"] = overlap.threshold_confusions(
            levels[None], probs[None], train_step.THRESHOLDS
        )[0]
    return output


def gather(task, outputs, items, how):
    """Scores outputs against their records."""
    pairs = zip(outputs, items, strict=True)
    return scores_lib.gather([scores_lib.score_image(task, *pair, how) for pair in pairs])


def collect(task, masks, probs):
    outputs = [make_output(task, m, p) for m, p in zip(masks, probs, strict=True)]
    return gather(task, outputs, Records(masks), "squash")


def draw(num=4, size=9):
    np_rng = np.random.default_rng(0)
    masks = np_rng.integers(0, 4, (num, size, size)).astype(np.uint8)
    return masks, np_rng.random((num, size, size), np.float32)


def draw_with_empty(num=6):
    """The first image has no lungs, the second no prediction, the third neither."""
    masks, probs = draw(num)
    masks[[0, 2]] &= record.INFECTION
    probs[[1, 2]] *= 0.04
    return masks, probs


def collect_diagnoses(num=30, seed=0):
    np_rng = np.random.default_rng(seed)
    labels = np_rng.integers(0, 2, num)
    # Of two decimals, so that some are equal.
    probs = np.round(np.clip(0.3 + 0.3 * labels + np_rng.normal(0, 0.25, num), 0, 1), 2)
    blank = np.zeros((num, 4, 4), np.uint8)
    outputs = [
        make_output(COVID, blank[i], np.float32(probs[i]).reshape(1, 1), labels[i])
        for i in range(num)
    ]
    scores = gather(COVID, outputs, Records(blank, labels), "squash")
    return scores, labels, probs.astype(np.float32)


def oracle(name, true, preds):
    """scikit-learn's score of one mask; Dice and IoU of two empty ones are 1, other 0 / 0 NaN."""
    function, positive = {
        "dice": (metrics.f1_score, 1),
        "iou": (metrics.jaccard_score, 1),
        "precision": (metrics.precision_score, 1),
        "sensitivity": (metrics.recall_score, 1),
        "specificity": (metrics.recall_score, 0),
    }[name]
    of_nothing = 1.0 if name in ("dice", "iou") else math.nan
    return function(true, preds, pos_label=positive, zero_division=of_nothing)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_accuracy_at_one_half_is_sklearns_whatever_the_threshold_is(threshold):
    task = mask.make_task(target="lung", threshold=threshold, loss="bce", alpha=0.5)
    masks, probs = draw()
    probs[0, 0, :3] = 0.5  # Not above it.
    got = scores_lib.summarise(task, collect(task, masks, probs))["scores"]
    true = (masks & record.LUNG) > 0
    want = metrics.accuracy_score(true.ravel(), probs.ravel() > 0.5)
    assert got["accuracy_at_half"] == pytest.approx(want)
    assert (got["accuracy"] == pytest.approx(want)) == (threshold == 0.5)


def test_accuracy_of_diagnoses_at_one_half_is_sklearns_whatever_the_threshold_is():
    scores, labels, probs = collect_diagnoses()
    assert (probs == 0.5).any()  # Not above it.
    got = scores_lib.summarise(dataclasses.replace(COVID, threshold=0.3), scores)
    want = metrics.accuracy_score(labels, probs > 0.5)
    assert got["scores"]["accuracy_at_half"] == pytest.approx(want)
    low, high = got["intervals"]["accuracy_at_half"]
    assert low < want < high


def test_split_scores_are_sklearns_over_all_pixels():
    task = three_level.make_task()
    masks, probs = draw()
    got = scores_lib.summarise(task, collect(task, masks, probs))["scores"]
    true = np.select([masks >= 2, masks == 1], [2, 1], 0).ravel()
    preds = np.select([probs > 190 / 255, probs > 62.5 / 255], [2, 1], 0).ravel()
    np.testing.assert_allclose(got["f1_macro"], metrics.f1_score(true, preds, average="macro"))
    np.testing.assert_allclose(
        got["iou_micro"], metrics.jaccard_score(true, preds, average="micro")
    )
    np.testing.assert_allclose(got["mse"], probs.mean(axis=(1, 2)).mean(), rtol=1e-6)
    assert not [name for name in got if name.endswith("_stored")]


@pytest.mark.parametrize("name", ["dice", "iou", "precision", "sensitivity", "specificity"])
def test_a_masks_scores_are_sklearns_averaged_over_images_and_pooled(name):
    masks, probs = draw_with_empty()
    summary = scores_lib.summarise(LUNGS, collect(LUNGS, masks, probs))
    got = summary["scores"]
    assert summary["undefined"] == {"hd95": 2, "asd": 2, "sensitivity": 2, "precision": 2}
    true, preds = (masks & 1).reshape(6, -1), (probs > 0.5).astype(int).reshape(6, -1)
    want = [oracle(name, t, p) for t, p in zip(true, preds, strict=True)]
    np.testing.assert_allclose(got[name], np.nanmean(want))
    np.testing.assert_allclose(got[f"{name}_pooled"], oracle(name, true.ravel(), preds.ravel()))
    np.testing.assert_allclose(got["accuracy"], (true == preds).mean())
    both = [
        np.mean([oracle("iou", t, p), oracle("iou", 1 - t, 1 - p)])
        for t, p in zip(true, preds, strict=True)
    ]
    np.testing.assert_allclose(got["mean_iou"], np.mean(both))


def test_the_curves_over_thresholds_are_sklearns_at_each():
    masks, probs = draw_with_empty()
    got = scores_lib.summarise(LUNGS, collect(LUNGS, masks, probs))["thresholds"]
    assert got["thresholds"] == [round(0.05 * i, 2) for i in range(1, 20)]
    true = (masks & 1).reshape(6, -1)
    for name in ("dice", "iou"):
        want = [
            np.mean(
                [
                    oracle(name, t, (p > np.float32(threshold)).astype(int))
                    for t, p in zip(true, probs.reshape(6, -1), strict=True)
                ]
            )
            for threshold in got["thresholds"]
        ]
        np.testing.assert_allclose(got[name], want)
    # 0.5 is the task's own.
    summary = scores_lib.summarise(LUNGS, collect(LUNGS, masks, probs))
    np.testing.assert_allclose(got["dice"][9], summary["scores"]["dice"])


def check_calibration(got, levels, probs):
    """Against scikit-learn's curve over all outputs together."""
    shares, means = sklearn_calibration.calibration_curve(levels, probs, n_bins=15)
    counts = np.array(got["counts"])
    assert counts.sum() == len(levels)
    for name, want in (("fraction", shares), ("mean_prob", means)):
        found = [x for x in got[name] if x is not None]
        np.testing.assert_allclose(found, want, atol=1e-5)
    gaps = np.abs(shares - means)
    np.testing.assert_allclose(got["ece"], np.average(gaps, weights=counts[counts > 0]), atol=1e-5)
    np.testing.assert_allclose(got["ace"], gaps.mean(), atol=1e-5)


def test_calibration_is_of_all_pixels_and_its_intervals_are_of_patients():
    masks, probs = draw_with_empty(12)
    scores = collect(LUNGS, masks, probs)
    got = scores_lib.summarise(LUNGS, scores)["calibration"]
    check_calibration(got, (masks & 1).ravel(), probs.ravel())
    for name in ("ece", "ace"):
        low, high = got[f"{name}_interval"]
        assert low < high
    alone = select(scores, np.arange(12), np.full(12, "p"))
    for name in ("ece", "ace"):
        assert scores_lib.calibrate(alone)[f"{name}_interval"] == [None, None]


def test_calibration_of_a_diagnosis_is_of_images():
    scores, labels, probs = collect_diagnoses(90)
    check_calibration(scores_lib.calibrate(scores), labels, probs)


def test_three_levels_are_no_probabilities_and_have_no_calibration():
    task = three_level.make_task()
    assert scores_lib.summarise(task, collect(task, *draw()))["calibration"] == {}


def test_a_diagnosis_is_scored_as_by_sklearn():
    scores, labels, probs = collect_diagnoses()
    summary = scores_lib.summarise(COVID, scores)
    got, preds = summary["scores"], (probs > 0.5).astype(int)
    want = {
        "accuracy": metrics.accuracy_score(labels, preds),
        "sensitivity": metrics.recall_score(labels, preds),
        "specificity": metrics.recall_score(labels, preds, pos_label=0),
        "precision": metrics.precision_score(labels, preds),
        "f1": metrics.f1_score(labels, preds),
        "auc": metrics.roc_auc_score(labels, probs),
    }
    assert {name: got[name] for name in want} == pytest.approx(want)
    np.testing.assert_array_equal(summary["confusion"], metrics.confusion_matrix(labels, preds))
    fpr, tpr, thresholds = metrics.roc_curve(labels, probs, drop_intermediate=False)
    np.testing.assert_allclose(summary["roc"]["fpr"], fpr)
    np.testing.assert_allclose(summary["roc"]["tpr"], tpr)
    np.testing.assert_allclose(summary["roc"]["thresholds"][1:], thresholds[1:])
    assert summary["roc"]["auc"] == pytest.approx(want["auc"])
    assert summary["roc"]["auc_interval"] == pytest.approx(summary["intervals"]["auc"])
    assert not [name for name in got if name.endswith("_stored")]


def test_a_diagnosis_of_one_class_alone_has_no_area_and_is_still_json():
    scores, labels, _ = collect_diagnoses()
    part = scores_lib.summarise_part(COVID, scores, labels == 0)
    for name in ("sensitivity", "auc"):
        assert part["scores"][name] is None
        assert part["intervals"][name] == [None, None]
    negatives = dataclasses.replace(
        scores, confusions=np.tile([[1, 0], [0, 0]], (len(labels), 1, 1))
    )
    summary = scores_lib.summarise(COVID, negatives)
    assert summary["roc"] == {}
    json.dumps(summary, allow_nan=False)


def select(scores, indices, people):
    """The images at `indices`, as those of `people`."""
    fields = {
        field.name: getattr(scores, field.name)[indices]
        for field in dataclasses.fields(scores)
        if field.name not in ("ids", "means")
    }
    ids = {name: values[indices] for name, values in scores.ids.items()}
    means = {name: values[indices] for name, values in scores.means.items()}
    return scores_lib.SplitScores(ids=ids | {"patient_id": people}, means=means, **fields)


@pytest.mark.parametrize("task", ["mask", "diagnosis"])
def test_intervals_hold_the_score_and_are_over_patients_not_images(task):
    if task == "mask":
        task, scores = LUNGS, collect(LUNGS, *draw(12))
    else:
        task, (scores, _, _) = COVID, collect_diagnoses()
    num = len(scores.confusions)
    people = np.array([f"p{i:02}" for i in range(num)])
    alone = scores_lib.summarise(task, select(scores, np.arange(num), people))
    same = {name: ends for name, ends in alone["intervals"].items() if None in ends}
    assert same.keys() == {"loss", "loss_excess"}  # Of all images the same.
    wide = {name: ends for name, ends in alone["intervals"].items() if name not in same}
    for name, (low, high) in wide.items():
        assert low <= alone["scores"][name] <= high, name
    low, high = alone["intervals"]["accuracy"]
    assert high - low > 0.01

    # Every patient with all images thrice: nothing more is known.
    thrice = np.repeat(np.arange(num), 3)
    repeated = scores_lib.summarise(task, select(scores, thrice, people[thrice]))
    for name, interval in wide.items():
        assert repeated["intervals"][name] == pytest.approx(interval), name
    # The same images of as many patients: more is known.
    others = np.array([f"p{i:02}" for i in range(3 * num)])
    more = scores_lib.summarise(task, select(scores, thrice, others))
    narrower = np.subtract(*more["intervals"]["accuracy"][::-1])
    assert narrower < 0.8 * (high - low)
    # All of one patient: nothing is known of others.
    one = scores_lib.summarise(task, select(scores, np.arange(num), np.full(num, "p")))
    for name, interval in one["intervals"].items():
        assert interval == [None, None], name
    assert (one["num_images"], one["num_patients"]) == (num, 1)


def test_groups_are_scored_by_themselves():
    task = three_level.make_task()
    masks, probs = draw(num=5)
    groups = scores_lib.summarise_groups(task, collect(task, masks, probs))
    alone = collect(task, masks[1::2], probs[1::2])
    want = scores_lib.summarise(task, alone)["scores"]
    assert groups["odd"]["num_images"] == 2
    assert groups["odd"]["scores"] == pytest.approx(want)


def test_the_csv_has_a_row_per_image_with_its_own_dice():
    masks, probs = draw()
    rows = list(
        csv.DictReader(io.StringIO(score_table.to_csv(LUNGS, collect(LUNGS, masks, probs))))
    )
    assert [row["image_id"] for row in rows] == ["i0", "i1", "i2", "i3"]
    assert [row["patient_id"] for row in rows] == ["p0", "p0", "p1", "p1"]
    want = [
        metrics.f1_score((m & 1).ravel(), (p > 0.5).ravel())
        for m, p in zip(masks, probs, strict=True)
    ]
    np.testing.assert_allclose([float(row["dice"]) for row in rows], want)


def test_the_csv_of_a_diagnosis_has_probability_and_truth():
    scores, labels, probs = collect_diagnoses()
    rows = list(csv.DictReader(io.StringIO(score_table.to_csv(COVID, scores))))
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probs)
    assert [int(row["is_positive"]) for row in rows] == labels.tolist()
    assert [float(row["right"]) for row in rows] == ((probs > 0.5) == labels).tolist()


def test_means_are_of_the_images_that_have_the_score_and_the_rest_is_counted():
    """By hand: TP 6 of 10 and of 8; then nothing annotated, nothing predicted, and neither."""
    confusions = np.array(
        [
            [[80, 2], [4, 6]],
            [[90, 2], [2, 6]],
            [[95, 5], [0, 0]],
            [[90, 0], [10, 0]],
            [[100, 0], [0, 0]],
        ]
    )
    people = np.array(list("abcde"))
    got = scores_lib.score_confusions(LUNGS, confusions, confusions, people)
    assert got["undefined"] == {"sensitivity": 2, "precision": 2}
    assert got["scores"]["sensitivity"] == pytest.approx((6 / 10 + 6 / 8 + 0) / 3)
    assert got["scores"]["precision"] == pytest.approx((6 / 8 + 6 / 8 + 0) / 3)
    assert got["scores"]["dice"] == pytest.approx((12 / 18 + 12 / 16 + 0 + 0 + 1) / 5)
    # Three people tell of sensitivity, so these are what its interval is made from.
    three = scores_lib.score_confusions(LUNGS, *[confusions[[0, 1, 3]]] * 2, people[:3])
    for name in ("sensitivity", "sensitivity_pooled"):
        assert got["intervals"][name] == pytest.approx(three["intervals"][name])


@pytest.mark.parametrize("task", ["mask", "three_level", "diagnosis", "volume_mask"])
def test_what_orders_images_and_chooses_checkpoints_always_has_a_value(task):
    """Whatever is annotated or predicted, or neither."""
    settings = dict(target="lung", threshold=0.5, loss="bce", alpha=0.5)
    task = {
        "mask": LUNGS,
        "three_level": three_level.make_task(),
        "diagnosis": COVID,
        "volume_mask": volume_mask.make_task(region="full", **settings),
    }[task]
    size = len(task.levels)
    every = np.array(list(itertools.product((0, 5), repeat=size**2))[1:]).reshape(-1, size, size)
    assert np.isfinite(task.pooled_scores(every)[task.epoch_score[0]]).all()
    if task.rank_by:
        assert np.isfinite(task.image_scores(every)[task.rank_by]).all()


def test_groups_and_baselines_count_what_their_means_leave_out():
    masks, probs = draw_with_empty()
    groups = scores_lib.summarise(LUNGS, collect(LUNGS, masks, probs))["by_group"]
    assert groups["even"]["undefined"] == {"hd95": 1, "asd": 1, "sensitivity": 2, "precision": 1}
    assert groups["odd"]["undefined"] == {"hd95": 1, "asd": 1, "precision": 1}


def test_of_three_levels_nothing_is_left_out_of_a_mean_over_images():
    """Its scores are of all pixels together: what single images lack is no matter."""
    task = three_level.make_task()
    masks, probs = draw()
    masks[:] = 0
    summary = scores_lib.summarise(task, collect(task, masks, probs))
    assert summary["undefined"] == {}
    for name in ("recall_lung", "recall_infection"):
        assert summary["scores"][name] is None
        assert summary["intervals"][name] == [None, None]
    assert summary["scores"]["recall_macro"] == summary["scores"]["recall_outside"]


def test_a_diagnosis_that_calls_nobody_positive_has_no_precision():
    blank = np.zeros((4, 2, 2), np.uint8)
    labels = np.array([0, 0, 1, 1])
    low = np.full((1, 1), 0.1, np.float32)
    outputs = [make_output(COVID, blank[0], low, label) for label in labels]
    scores = gather(COVID, outputs, Records(blank, labels), "squash")
    got = scores_lib.summarise(COVID, scores)["scores"]
    assert got["precision"] is None
    assert (got["sensitivity"], got["specificity"], got["f1"]) == (0, 1, 0)
    assert got["auc"] == 0.5


def squares(shift):
    """A mask of 64 x 64 and the probabilities of its half-size copy, moved right by `shift`."""
    stored, probs = np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.float32)
    stored[16:48, 16:48] = record.LUNG
    probs[8:24, 8 + shift : 24 + shift] = 1
    return stored, probs


def collect_squares(*pairs):
    outputs = []
    for stored, probs in pairs:
        small = resize.fit(stored, stored, 32, "squash")[1]
        outputs.append(make_output(LUNGS, small, probs))
    return gather(LUNGS, outputs, Records([stored for stored, _ in pairs]), "squash")


def test_scores_at_the_stored_size_undo_the_resizing():
    """A mask that the network gets right at its own size is nearly right at any stored size."""
    row, column = np.mgrid[:90, :60]
    disc = (np.hypot(row - 40, column - 25) < 18).astype(np.uint8)
    _, small = resize.fit(disc, disc, 32, "squash")
    outputs = [make_output(LUNGS, small, small.astype(np.float32))]
    collected = gather(LUNGS, outputs, Records([disc]), "squash")
    scores = scores_lib.summarise(LUNGS, collected)["scores"]
    assert scores["dice"] == 1
    assert 0.95 < scores["dice_stored"] < 1


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_distances_count_pixels_of_the_stored_image(shift):
    """Two of them are one of the network's."""
    scores = scores_lib.summarise(LUNGS, collect_squares(squares(shift)))["scores"]
    assert scores["hd95"] == 2 * shift
    assert (scores["asd"] > 0) == (shift > 0)


def test_distances_that_are_not_defined_are_left_out_and_counted():
    stored, probs = squares(1)
    missed, empty = (stored, 0 * probs), (0 * stored, 0 * probs)
    summary = scores_lib.summarise(LUNGS, collect_squares((stored, probs), missed, empty))
    dice_has = {"sensitivity": 1, "precision": 2}
    assert summary["undefined"] == (
        {"hd95": 1, "asd": 1}
        | dice_has
        | {f"{name}_stored": count for name, count in dice_has.items()}
    )
    assert summary["scores"]["hd95"] == 1  # Of 2 and, for two empty masks, 0.
    rows = score_table.to_csv(LUNGS, collect_squares((stored, probs), missed)).splitlines()
    second = list(csv.DictReader(rows))[1]
    assert (second["hd95"], second["precision"], second["sensitivity"]) == ("", "", "0.0")
    only = scores_lib.summarise(LUNGS, collect_squares(missed))
    assert only["scores"]["hd95"] is None
    json.dumps(only, allow_nan=False)
