"""Scores of every image of a split, and the tables and summaries made from them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import resize
from jaxlung.evaluation import intervals
from jaxlung.metrics import calibration, jackknife, overlap, roc, surface
from jaxlung.tasks import task as task_lib
from jaxlung.training import train_step

PIXEL_MEANS = ("loss", "loss_excess", "mse", "mae")  # Of the raw output, per image.
Keep = Callable[[Any, np.ndarray], None]  # of a record and its probabilities
Bins = tuple[np.ndarray, np.ndarray]  # counts and sums, as from `calibration.count`
NO_BINS: Bins = (np.empty((0, 2)), np.empty(0))
FEWEST_BY_SIZE = 8  # Images with foreground: two per quartile (our choice).


@dataclasses.dataclass(frozen=True)
class SplitScores:
    """Scores of every image of a split, in the order of its source.

    Attributes:
        ids: "image_id", "patient_id" and "group" -> [N] str; for volumes also "shape" and
            "spacing_mm".
        means: score name -> [N] float64: scores of the raw output and, for binary masks, distances
            in pixels of the stored image or mm of the volume; NaN where undefined.
        confusions: [N, L, L] int64 at the network's size.
        stored: [N, L, L] int64 at the images' own size; the same as `confusions` for tasks without
            maps.
        at_thresholds: [N, T, 2, 2] int64 at `train_step.THRESHOLDS`; T = 0 except for binary masks.
        probs: [N] float64, the output of tasks without maps; NaN for other tasks.
        bin_counts: [N, 15, 2] int64, number of pixels (for tasks without maps, of images) by bin of
            probability and by reference, see `calibration`; [N, 0, 2] for three levels, whose
            output is not a probability.
        bin_sums: [N, 15] or [N, 0] float64, sums of the probabilities in each bin.
        before_counts: `bin_counts` without the temperature; [N, 0, 2] if there is none.
        before_sums: `bin_sums` without the temperature; [N, 0] if there is none.
    """

    ids: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    confusions: np.ndarray
    stored: np.ndarray
    at_thresholds: np.ndarray
    probs: np.ndarray
    bin_counts: np.ndarray
    bin_sums: np.ndarray
    before_counts: np.ndarray
    before_sums: np.ndarray


def gather(rows: Sequence[Mapping[str, Any]]) -> SplitScores:
    """Joins the rows of a split, each of which has an entry for every array, by name."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    texts = [name for name, value in rows[0].items() if isinstance(value, str)]
    return SplitScores(
        ids={name: np.array(columns.pop(name)) for name in texts},
        confusions=np.array(columns.pop("confusion"), np.int64),
        stored=np.array(columns.pop("stored"), np.int64),
        at_thresholds=np.array(columns.pop("at_thresholds"), np.int64),
        probs=np.array(columns.pop("prob"), np.float64),
        bin_counts=np.array(columns.pop("bin_counts"), np.int64),
        bin_sums=np.array(columns.pop("bin_sums"), np.float64),
        before_counts=np.array(columns.pop("before_counts"), np.int64),
        before_sums=np.array(columns.pop("before_sums"), np.float64),
        means={name: np.array(values, np.float64) for name, values in columns.items()},
    )


def score_image(
    task: task_lib.Task,
    output: Mapping[str, np.ndarray],
    item: record.Record,
    how: str,
    keep: Keep = lambda item, probs: None,
) -> dict[str, Any]:
    """Returns one image's entries of every array of `SplitScores`, by name.

    Args:
        task: task of the network.
        output: outputs of `Step.evaluate` for the image.
        item: record of the image.
        how: `resize` of the image to the network's size, to be undone for scores at its own size.
        keep: function that is called with the record and its map of probabilities at its own size.
    """
    row = {
        "image_id": item.image_id,
        "patient_id": item.patient_id,
        "group": item.group,
        "confusion": output["confusion"],
        "stored": output["confusion"],
        "at_thresholds": output.get("threshold_confusions", np.empty((0, 2, 2))),
        "prob": math.nan if task.is_map else output["probs"].item(),
        **bin_image(task, output),
    }
    row |= {name: output[name] for name in PIXEL_MEANS}
    if task.is_map:
        height, width = item.image.shape
        probs = resize.unfit(output["probs"], height, width, how)
        keep(item, probs)
        preds = task.postprocess(probs[..., None])
        levels = task.true_levels(item.mask, item.label)
        row["stored"] = overlap.confusion_of_one(levels, preds, len(task.levels))
        if task.is_binary_map:
            row |= surface.surface_scores(preds > 0, levels > 0, 1.0)
    return row


def bin_image(task: task_lib.Task, output: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns "bin_counts", "before_sums" etc. of `SplitScores` for one image."""
    probs = None if len(task.levels) > 2 else output["probs"]
    after, before = (
        NO_BINS if x is None else calibration.count(output["levels"], x)
        for x in (probs, output.get("probs_before"))
    )
    return name_bins(after, before)


def name_bins(after: Bins, before: Bins) -> dict[str, np.ndarray]:
    """Returns the entries of `SplitScores` for bins with and without the temperature."""
    return {
        "bin_counts": after[0],
        "bin_sums": after[1],
        "before_counts": before[0],
        "before_sums": before[1],
    }


def summarise(task: task_lib.Task, scores: SplitScores) -> dict[str, Any]:
    """Returns all that a summary says about one split's scores, as JSON values."""
    people = scores.ids["patient_id"]
    judged = summarise_part(task, scores, np.ones(len(people), bool))
    return {
        "num_images": len(people),
        "num_patients": len(np.unique(people)),
        **judged,
        "sd": spread(task, scores) if task.averages_images else {},
        "by_group": summarise_groups(task, scores),
        "threshold": task.threshold,
        "thresholds": score_thresholds(task, scores),
        "roc": draw_roc(task, scores, judged),
        "calibration": calibrate(scores),
        "calibration_before": calibrate(scores, before=True),
        "by_size": summarise_sizes(task, scores),
        "confusion": [] if task.is_map else scores.confusions.sum(axis=0).tolist(),
    }


def spread(task: task_lib.Task, scores: SplitScores) -> dict[str, float | None]:
    """Returns the standard deviation (n - 1) of each score over the images that have it.

    It is None if fewer than two have it. It is over images, not people, as papers report it.
    """
    columns = scores.means | averaged(task, scores.confusions, scores.stored)
    each = {name: x[np.isfinite(x)] for name, x in columns.items()}
    return {name: float(x.std(ddof=1)) if len(x) > 1 else None for name, x in each.items()}


def summarise_part(
    task: task_lib.Task, scores: SplitScores, which: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Returns "scores", 95 % "intervals" and counts of "undefined" for the images in `which`.

    Names that end in "_stored" are of scores at the images' own size.
    """
    means = scores.means | right_at_half(task, scores)
    part = {name: values[which] for name, values in means.items()}
    confusions, stored = scores.confusions[which], scores.stored[which]

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        result = {name: jackknife.weighted_mean(x, weights) for name, x in part.items()}
        if not task.is_map:
            result["auc"] = image_auc(scores, which, weights)
        return result | both_sizes(task, confusions, stored, weights)

    people = scores.ids["patient_id"][which]
    compared = {} if task.is_map else {"auc": is_positive(scores)[which]}
    judged = intervals.with_intervals(compute, people, compared)
    return judged | {"undefined": count_undefined(part | averaged(task, confusions, stored))}


def score_confusions(
    task: task_lib.Task, confusions: np.ndarray, stored: np.ndarray, people: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Returns "scores", "intervals" and "undefined" from confusion matrices alone.

    Args:
        task: task of the network.
        confusions: [N, L, L] at the network's size.
        stored: [N, L, L] at the images' own size.
        people: [N] str.
    """
    judged = intervals.with_intervals(
        lambda weights: both_sizes(task, confusions, stored, weights), people
    )
    return judged | {"undefined": count_undefined(averaged(task, confusions, stored))}


def both_sizes(
    task: task_lib.Task, confusions: np.ndarray, stored: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns scores of a split at the network's size and, as "..._stored", at the images' own.

    The latter are left out if all images have the network's number of pixels.
    """
    result = split_scores(task, confusions, weights)
    if not same_sizes(confusions, stored):
        own = split_scores(task, stored, weights)
        result |= {f"{name}_stored": values for name, values in own.items()}
    return result


def split_scores(
    task: task_lib.Task, confusions: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns score name -> [R], from [N, L, L] confusions counted `weights` [R, N] times each."""
    pooled = np.tensordot(weights.astype(np.float64), confusions, axes=1)
    means = averaged(task, confusions, confusions)
    means = {name: jackknife.weighted_mean(x, weights) for name, x in means.items()}
    return means | task.pooled_scores(pooled)


def same_sizes(confusions: np.ndarray, stored: np.ndarray) -> bool:
    """Returns True if all images have as many pixels at their own size as at the network's."""
    return np.array_equal(confusions.sum(axis=(1, 2)), stored.sum(axis=(1, 2)))


def summarise_groups(task: task_lib.Task, scores: SplitScores) -> dict[str, dict[str, Any]]:
    """Returns a summary of each group of images ("COVID-19", ...); {} if there is only one."""
    groups = scores.ids["group"]
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return {}
    return {
        name: {
            "num_images": int((groups == name).sum()),
            **summarise_part(task, scores, groups == name),
        }
        for name in names
    }


def score_thresholds(task: task_lib.Task, scores: SplitScores) -> dict[str, list[float]]:
    """Returns mean Dice and IoU at each of `train_step.THRESHOLDS`; {} without a binary mask."""
    if not task.is_binary_map:
        return {}
    at_each = task.image_scores(scores.at_thresholds)
    curves = {name: at_each[name].mean(axis=0).tolist() for name in ("dice", "iou")}
    return {"thresholds": list(train_step.THRESHOLDS), **curves}


def draw_roc(
    task: task_lib.Task, scores: SplitScores, judged: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the ROC curve of the images, at most 500 points; {} for maps or a single class.

    Args:
        task: task of the network.
        scores: scores of the split.
        judged: `summarise_part` of all images, which has their AUC.
    """
    labels = is_positive(scores)
    if task.is_map or labels.all() or not labels.any():
        return {}
    curve = roc.roc_curve(labels, scores.probs)
    kept = np.unique(np.linspace(0, len(curve.fpr) - 1, 500).round().astype(int))
    return {
        "fpr": curve.fpr[kept].tolist(),
        "tpr": curve.tpr[kept].tolist(),
        "thresholds": [intervals.to_json(x) for x in curve.thresholds[kept].tolist()],
        "auc": judged["scores"]["auc"],
        "auc_interval": judged["intervals"]["auc"],
    }


def image_auc(scores: SplitScores, which: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns [R] AUC of the images that `which` [N] bool picks; NaN if a class is absent."""
    return np.asarray(roc.auc(is_positive(scores)[which], scores.probs[which], weights))


def right_at_half(task: task_lib.Task, scores: SplitScores) -> dict[str, np.ndarray]:
    """Returns "accuracy_at_half" -> [N] float64, the accuracy of each image at threshold 0.5.

    Keras computes its accuracy at this threshold, whichever the other scores use. {} for tasks
    without a threshold, and for volumes, whose predictions depend on more than a threshold.
    """
    if task.threshold is None or task.records != "images":
        return {}
    if not task.is_map:
        right = (scores.probs > 0.5) == is_positive(scores)
        return {"accuracy_at_half": right.astype(np.float64)}
    at_half = scores.at_thresholds[:, train_step.THRESHOLDS.index(0.5)]
    return {"accuracy_at_half": overlap.binary_scores(at_half)["accuracy"]}


def calibrate(scores: SplitScores, *, before: bool = False) -> dict[str, Any]:
    """Returns mean probability and share of foreground by bin, and calibration errors.

    {} if there are no pixels. With few images the errors are biased upwards, as chance alone
    opens gaps.

    Args:
        scores: scores of the split.
        before: judge the probabilities without the temperature; {} if there is none.
    """
    bin_counts, bin_sums = scores.bin_counts, scores.bin_sums
    if before:
        bin_counts, bin_sums = scores.before_counts, scores.before_sums
    if not bin_counts.any():
        return {}

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        weights = weights.astype(np.float64)
        binned = (np.tensordot(weights, x, axes=1) for x in (bin_counts, bin_sums))
        return calibration.errors(*binned)

    judged = intervals.with_intervals(compute, scores.ids["patient_id"])
    counts, sums = bin_counts.sum(axis=0), bin_sums.sum(axis=0)
    pixels = counts.sum(axis=-1)
    filled = np.where(pixels > 0, pixels, math.nan)
    return {
        "counts": pixels.tolist(),
        "mean_prob": [intervals.to_json(x) for x in (sums / filled).tolist()],
        "fraction": [intervals.to_json(x) for x in (counts[:, 1] / filled).tolist()],
        **judged["scores"],
        **{f"{name}_interval": ends for name, ends in judged["intervals"].items()},
    }


def summarise_sizes(task: task_lib.Task, scores: SplitScores) -> dict[str, Any]:
    """Returns Dice and IoU of the last level by the annotated amount, at the network's size.

    {} for tasks without maps, and if fewer than `FEWEST_BY_SIZE` images have any. The numbers of
    images in the four quartiles differ by one at most, so that images of equal size may be in two
    neighbouring ones.
    """
    confusions = scores.confusions
    pixels = confusions[:, -1].sum(axis=-1)
    if not task.is_map or np.count_nonzero(pixels) < FEWEST_BY_SIZE:
        return {}
    in_ml = "true_volume_ml" in scores.means
    sizes = scores.means["true_volume_ml"] if in_ml else pixels
    by_size = np.argsort(sizes, kind="stable")
    quartiles = np.array_split(by_size[pixels[by_size] > 0], 4)
    return {
        "unit": "mL" if in_ml else "pixels",
        "quartiles": [
            {
                "range": [sizes[which].min().item(), sizes[which].max().item()],
                **count_found(confusions[which]),
                **score_last_level(confusions[which], scores.ids["patient_id"][which]),
            }
            for which in quartiles
        ],
        "without": count_found(confusions[pixels == 0]),
    }


def count_found(confusions: np.ndarray) -> dict[str, int]:
    """Counts images, and those in which nothing of the last level is predicted."""
    found = confusions[..., -1].sum(axis=-1) > 0
    return {"num_images": found.size, "num_nothing_found": int((~found).sum())}


def score_last_level(confusions: np.ndarray, people: np.ndarray) -> dict[str, dict[str, Any]]:
    """Returns mean "dice" and "iou" of the last level, with intervals over [N] people."""
    levels = overlap.level_scores(confusions)
    each = {name: levels[key][:, -1] for name, key in (("dice", "f1"), ("iou", "iou"))}
    return intervals.with_intervals(
        lambda weights: {name: jackknife.weighted_mean(x, weights) for name, x in each.items()},
        people,
    )


def is_positive(scores: SplitScores) -> np.ndarray:
    """Returns [N] bool, True where the reference of a task without maps is level 1."""
    return scores.confusions[:, 1].sum(axis=-1) > 0


def image_scores(
    task: task_lib.Task, confusions: np.ndarray, stored: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns name -> [N], scores of single images, as "..._stored" at their own size."""
    columns = task.image_scores(confusions)
    if same_sizes(confusions, stored):
        return columns
    return columns | {f"{name}_stored": x for name, x in task.image_scores(stored).items()}


def averaged(
    task: task_lib.Task, confusions: np.ndarray, stored: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns `image_scores` if the task reports their means, otherwise {}."""
    return image_scores(task, confusions, stored) if task.averages_images else {}


def count_undefined(columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Counts the NaNs of each score, for scores that have any."""
    counts = {name: int(np.isnan(values).sum()) for name, values in columns.items()}
    return {name: count for name, count in counts.items() if count}
