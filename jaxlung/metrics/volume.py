"""How much is infected: millilitres, and the share of the lung."""

import math
from collections.abc import Sequence

import numpy as np


def volume_scores(
    pred: np.ndarray, reference: np.ndarray, lung: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Volumes in mL, and shares of the lung, as predicted, as annotated, and how far apart.

    A volume counts all voxels; a share counts those inside the lung, so that none exceeds 1.

    Args:
        pred: [D, H, W] bool.
        reference: bool, same shape.
        lung: bool, same shape; the same lung for both shares.
        spacing_mm: size of a voxel along D, H and W, in mm.

    Returns:
        "volume_ml", "true_volume_ml", "volume_error_ml" in mL; "share", "true_share" in [0, 1],
        "share_error" in [-1, 1]. Errors are predicted minus true. Shares are NaN without a lung.

    Raises:
        ValueError: masks that are not bool, not 3D or differ in shape; a spacing that is not three
            numbers above 0.
    """
    voxel_ml = _check(pred, reference, lung, spacing_mm)
    volume, true_volume = _count(pred) * voxel_ml, _count(reference) * voxel_ml
    size = _count(lung)
    share = _count(pred & lung) / size if size else math.nan
    true_share = _count(reference & lung) / size if size else math.nan
    return {
        "volume_ml": volume,
        "true_volume_ml": true_volume,
        "volume_error_ml": volume - true_volume,
        "share": share,
        "true_share": true_share,
        "share_error": share - true_share,
    }


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _check(
    pred: np.ndarray, reference: np.ndarray, lung: np.ndarray, spacing_mm: Sequence[float]
) -> float:
    """The volume of a voxel, mL."""
    if not pred.dtype == reference.dtype == lung.dtype == bool:
        raise ValueError(
            f"volume: want bool masks, got {pred.dtype}, {reference.dtype} and {lung.dtype}."
        )
    if not pred.shape == reference.shape == lung.shape or pred.ndim != 3:
        raise ValueError(
            f"volume: pred {pred.shape}, reference {reference.shape} and lung {lung.shape} must "
            "agree, in 3 dimensions."
        )
    spacing = np.array(spacing_mm, np.float64)
    if spacing.shape != (3,) or not np.all((spacing > 0) & np.isfinite(spacing)):
        raise ValueError(f"volume: spacing_mm: got {spacing_mm}, want 3 numbers above 0.")
    return float(np.prod(spacing)) / 1000
