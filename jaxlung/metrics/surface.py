"""Distances between the surfaces of two masks, in mm or pixels, on the host.

The surface of a mask is its foreground voxels that have a background neighbour across a face
(4 neighbours in 2D, 6 in 3D); what lies outside the image counts as background. Distances are
Euclidean, between voxel centres.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, spatial

PERCENTILE = 95
SPARSE = 1 / 8  # Surface voxels per voxel, both masks': below, a tree beats a distance transform.


def surface_scores(
    pred: np.ndarray,
    reference: np.ndarray,
    spacing_mm: float | Sequence[float],
    tolerance_mm: float | None = None,
) -> dict[str, float]:
    """All scores of this file, from one search for nearest voxels each way.

    Two empty masks are 0 apart: finding nothing was right. If only one is empty there is no
    distance: NaN, to be left out of means and counted; but its NSD is 0.

    Args:
        pred: [H, W] or [D, H, W] bool.
        reference: bool, same shape.
        spacing_mm: size of a voxel along each axis, in mm, or one number for all axes; 1.0 makes
            the distances count pixels.
        tolerance_mm: asks for "nsd"; 0 or more.

    Returns:
        "hd95" and "asd", see `hausdorff_95` and `average_surface_distance`; in mm, >= 0 or NaN.
        With a tolerance "nsd", see `normalised_surface_distance`; in [0, 1].

    Raises:
        ValueError: arrays that are not bool, not 2D or 3D or differ in shape; a spacing that is
            not one number above 0 per axis; a tolerance below 0.
    """
    spacing = _check(pred, reference, spacing_mm)
    if tolerance_mm is not None and not 0 <= tolerance_mm < math.inf:
        raise ValueError(f"surface: tolerance_mm: got {tolerance_mm}, want a number of 0 or more.")
    if not (pred.any() and reference.any()):
        one = pred.any() or reference.any()
        apart = math.nan if one else 0.0
        nsd = {} if tolerance_mm is None else {"nsd": 0.0 if one else 1.0}
        return {"hd95": apart, "asd": apart} | nsd
    there, back = _directed_distances(pred, reference, spacing)
    both = np.concatenate([there, back])
    # Two voxels of 0.7 mm are not to miss a tolerance of 1.4 mm by a rounding error.
    nsd = {} if tolerance_mm is None else {"nsd": float(np.mean(both <= tolerance_mm + 1e-6))}
    return {
        "hd95": float(max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))),
        "asd": float(both.mean()),
    } | nsd


def hausdorff_95(
    pred: np.ndarray, reference: np.ndarray, spacing_mm: float | Sequence[float]
) -> float:
    """The larger of the two directed 95th percentiles of surface distances (HD95).

    Definitions differ: this is MONAI's (`compute_hausdorff_distance`, percentile=95). Others take
    one percentile of both directions pooled, which is lower where one surface is the larger.

    Arguments, empty masks and errors as in `surface_scores`.

    Returns:
        mm, >= 0; NaN if only one mask is empty.
    """
    return surface_scores(pred, reference, spacing_mm)["hd95"]


def average_surface_distance(
    pred: np.ndarray, reference: np.ndarray, spacing_mm: float | Sequence[float]
) -> float:
    """The symmetric mean of surface distances (ASSD).

    From every voxel of both surfaces to the other surface, each voxel weighing the same (Heimann
    et al., IEEE TMI 2009); not the mean of the two directed means.

    Arguments, empty masks and errors as in `surface_scores`.

    Returns:
        mm, >= 0; NaN if only one mask is empty.
    """
    return surface_scores(pred, reference, spacing_mm)["asd"]


def normalised_surface_distance(
    pred: np.ndarray,
    reference: np.ndarray,
    spacing_mm: float | Sequence[float],
    tolerance_mm: float,
) -> float:
    """Share of both surfaces that lies within a tolerance of the other (NSD, surface Dice).

    Nikolov et al. (JMIR 2021) weigh every piece of surface by its area in mm^2, found by marching
    cubes around the corners of voxels. Here the pieces are surface voxels, all of one weight: steps
    of a slanted surface count more than its area, the more so the more the spacing differs from
    axis to axis. Distances are those between voxel centres, so that a tolerance below the smallest
    spacing lets only voxels count that coincide.

    Arguments and errors as in `surface_scores`.

    Returns:
        In [0, 1]; two empty masks 1, one empty 0.
    """
    return surface_scores(pred, reference, spacing_mm, tolerance_mm)["nsd"]


def _directed_distances(
    pred: np.ndarray, reference: np.ndarray, spacing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    box = _bounding_box(pred | reference)
    pred_surface, reference_surface = _surface(pred[box]), _surface(reference[box])
    return (
        _distances(pred_surface, reference_surface, spacing),
        _distances(reference_surface, pred_surface, spacing),
    )


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Of the foreground. Nothing is lost: outside it there is no surface to measure to or from."""
    (box,) = ndimage.find_objects(mask.view(np.uint8), max_label=1)
    return box


def _surface(mask: np.ndarray) -> np.ndarray:
    # The default element is the neighbours across faces; outside counts as background.
    return mask & ~ndimage.binary_erosion(mask)


def _distances(source: np.ndarray, target: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """From every voxel of `source` to the nearest of `target`: [source.sum()] float64, mm."""
    voxels = np.count_nonzero(source) + np.count_nonzero(target)
    by = _by_tree if voxels < SPARSE * source.size else _by_transform
    return by(source, target, spacing)


def _by_tree(source: np.ndarray, target: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """About 2 us per surface voxel: 4 times faster than `_by_transform` for the lungs of a CT."""
    tree = spatial.cKDTree(np.argwhere(target) * spacing, balanced_tree=False)
    return tree.query(np.argwhere(source) * spacing)[0]


def _by_transform(source: np.ndarray, target: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """About 0.2 us per voxel of any kind: faster where much is surface, as in noise."""
    # Distances of all voxels would take several float64 copies of a CT; nearest voxels are int32.
    nearest = ndimage.distance_transform_edt(
        ~target, sampling=spacing, return_distances=False, return_indices=True
    )
    offsets = nearest[:, source] - np.stack(np.nonzero(source))
    return np.linalg.norm(offsets * spacing[:, None], axis=0)


def _check(
    pred: np.ndarray, reference: np.ndarray, spacing_mm: float | Sequence[float]
) -> np.ndarray:
    if not pred.dtype == reference.dtype == bool:
        raise ValueError(f"surface: want bool masks, got {pred.dtype} and {reference.dtype}.")
    if pred.shape != reference.shape or pred.ndim not in (2, 3):
        raise ValueError(
            f"surface: pred {pred.shape} and reference {reference.shape} must agree, in 2 or 3 "
            "dimensions."
        )
    spacing = np.array(spacing_mm, np.float64)
    one_per_axis = spacing.shape in ((), (pred.ndim,))
    if not (one_per_axis and np.all(spacing > 0) and np.all(np.isfinite(spacing))):
        raise ValueError(
            f"surface: spacing_mm: got {spacing_mm}, want {pred.ndim} numbers above 0, or one."
        )
    return np.broadcast_to(spacing, pred.ndim)
