"""Extent of the infection: its volume in mL, and its share of the lung."""

import math

import numpy as np


def ml_of_voxel(affine: np.ndarray) -> float:
    """Returns the volume of a voxel in mL, also on the sheared grid of a tilted gantry.

    On such a grid the product of the spacings would be too large, by 15 % at 30 degrees.

    Args:
        affine: [4, 4], from a voxel's index to mm, in any order of axes.
    """
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000


def volume_scores(
    pred: np.ndarray, reference: np.ndarray, lung: np.ndarray, voxel_ml: float
) -> dict[str, float]:
    """Returns the predicted and the annotated volume and share of the lung, and their differences.

    A volume counts all voxels. A share counts only voxels inside the lung, so that it is at most 1.

    Args:
        pred: [D, H, W] bool, the predicted infection.
        reference: [D, H, W] bool, the annotated infection.
        lung: [D, H, W] bool, the lung that both shares refer to.
        voxel_ml: volume of a voxel in mL.

    Returns:
        "volume_ml", "true_volume_ml", "volume_error_ml" in mL; "share", "true_share" in [0, 1],
        "share_error" in [-1, 1]. Errors are predicted minus true. Shares are NaN without a lung.

    Raises:
        ValueError: masks are not bool, not 3D, or differ in shape; or `voxel_ml` is not above 0.
    """
    _check(pred, reference, lung, voxel_ml)
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


def _check(pred: np.ndarray, reference: np.ndarray, lung: np.ndarray, voxel_ml: float) -> None:
    if not pred.dtype == reference.dtype == lung.dtype == bool:
        raise ValueError(
            f"volume: want bool masks, got {pred.dtype}, {reference.dtype} and {lung.dtype}."
        )
    if not pred.shape == reference.shape == lung.shape or pred.ndim != 3:
        raise ValueError(
            f"volume: pred {pred.shape}, reference {reference.shape} and lung {lung.shape} must "
            "agree, in 3 dimensions."
        )
    if not 0 < voxel_ml < math.inf:
        raise ValueError(f"volume: voxel_ml: got {voxel_ml}, want a number above 0.")
