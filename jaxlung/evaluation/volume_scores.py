"""Scores volumes on their own voxels; writes masks as NIfTI and planes for the report."""

from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from jaxlung.data import record
from jaxlung.evaluation import panels, scores
from jaxlung.host import progress
from jaxlung.metrics import calibration, overlap, surface, surface_area, volume
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import grid, nifti

TOLERANCE_MM = 1.0  # Of the normalised surface distance (our choice).


def score_split(
    system: system_lib.System,
    state: train_step.TrainState,
    source: record.Source,
    name: str,
    keep_in: epath.Path | None,
    also: Callable[[record.VolumeRecord], None] = lambda item: None,
    keep: scores.Keep = lambda item, probs: None,
) -> scores.SplitScores:
    """Predicts and scores every volume of a split.

    Args:
        system: what the run's config describes.
        state: the network.
        source: volumes of the split.
        name: name of the split, for the progress line.
        keep_in: folder that gets `predictions/<case>.nii.gz` on the grid of the case's file, and
            `planes_<split>.npz` for the report; None keeps nothing.
        also: function that is called with every volume, which saves decoding the split again.
        keep: function that is called with every volume and its probabilities, [D, H, W] float32.
    """
    rows, drawn = [], []
    # Windows are averaged after the temperature, which can't be undone: they are predicted twice.
    untempered = system.with_temperature(1.0) if system.step.temperature != 1 else None
    for index in progress.report(range(len(source)), f"evaluating {name}", "volumes", len(source)):
        item = source[index]
        probs = volume_inference.predict_record(system, state, item)
        preds = volume_inference.find_foreground(system, probs)
        keep(item, probs)
        before = None
        if untempered is not None:
            before = volume_inference.predict_record(untempered, state, item)
        rows.append(score_volume(system, probs, preds, item, before))
        also(item)
        if keep_in is not None:
            file_grid = grid.Grid(item.shape, item.affine)
            path = keep_in / "predictions" / f"{item.image_id}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nifti.write(path, grid.from_canonical(preds.astype(np.uint8), file_grid), file_grid)
            levels = system.task.true_levels(item.mask, 0) > 0
            drawn.append(panels.cut_planes(item, preds, levels, rows[-1]["confusion"]))
    if keep_in is not None:
        panels.write_planes(keep_in / f"planes_{name}.npz", drawn)
    return scores.gather(rows)


def score_volume(
    system: system_lib.System,
    probs: np.ndarray,
    preds: np.ndarray,
    item: record.VolumeRecord,
    before: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns one volume's entries of every array of `scores.SplitScores`, by name.

    Args:
        system: what the run's config describes.
        probs: [D, H, W] float32.
        preds: [D, H, W] bool.
        item: the volume with its annotation.
        before: `probs` without the temperature; None if there is none.
    """
    levels = system.task.true_levels(item.mask, 0)
    confusion = overlap.confusion_of_one(levels, preds.astype(np.uint8), 2)
    error = probs - levels
    lung = item.mask & record.LUNG != 0
    # Elsewhere a 0 is not the network's output.
    judged = lung if system.volume_inference.inside_lungs else np.ones_like(lung)
    return {
        "image_id": item.image_id,
        "patient_id": item.patient_id,
        "group": item.group,
        "shape": " x ".join(str(size) for size in item.image.shape),
        "spacing_mm": " x ".join(f"{mm:.3g}" for mm in item.spacing_mm),
        "confusion": confusion,
        "stored": confusion,
        "at_thresholds": threshold_confusions(levels, probs),
        "prob": np.nan,
        **scores.name_bins(
            bin_voxels(levels, probs, judged),
            scores.NO_BINS if before is None else bin_voxels(levels, before, judged),
        ),
        "mse": np.mean(error**2, dtype=np.float64),
        "mae": np.mean(np.abs(error), dtype=np.float64),
        **surface.surface_scores(preds, levels > 0, item.spacing_mm, TOLERANCE_MM),
        "nsd_by_area": surface_area.nsd_by_area(preds, levels > 0, item.spacing_mm, TOLERANCE_MM),
        **volume.volume_scores(preds, levels > 0, lung, volume.ml_of_voxel(item.affine)),
    }


def threshold_confusions(levels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Counts the confusion matrix at each of `train_step.THRESHOLDS`, [T, 2, 2] int64, in one pass.

    Args:
        levels: [D, H, W] uint8, 0 or 1.
        probs: [D, H, W] float32.
    """
    thresholds = np.array(train_step.THRESHOLDS, np.float32)
    some = probs > thresholds[0]  # Most of a volume is 0, and needs no search.
    num_passed = np.searchsorted(thresholds, probs[some], side="left")  # Thresholds below.
    size = len(thresholds) + 1
    joint = np.bincount(levels[some].astype(np.intp) * size + num_passed, minlength=2 * size)
    above = joint.reshape(2, size)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # [2, T]
    present = np.count_nonzero(levels)
    below = np.array([[levels.size - present], [present]]) - above
    return np.stack([below, above], axis=-1).transpose(1, 0, 2)


def bin_voxels(levels: np.ndarray, probs: np.ndarray, judged: np.ndarray) -> scores.Bins:
    """Returns counts and sums by bin, as `calibration.count`, for the voxels that are `judged`.

    It works slice by slice: the indices of a whole volume would take twice the memory of its
    probabilities.
    """
    slices = zip(levels, probs, judged, strict=True)
    counts, sums = zip(
        *(calibration.count(level[here], prob[here]) for level, prob, here in slices),
        strict=True,
    )
    return np.sum(counts, axis=0), np.sum(sums, axis=0)
