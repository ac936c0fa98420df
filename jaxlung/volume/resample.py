"""Volumes to another spacing or shape, and back."""

import numpy as np
from scipy import ndimage


def to_spacing(
    volume: np.ndarray,
    spacing_mm: tuple[float, float, float],
    wanted_mm: tuple[float, float, float],
    *,
    labels: bool,
) -> np.ndarray:
    """A volume with its voxels as far apart as wanted, to the nearest whole number of voxels.

    Both volumes fill the same box (our choice), so the spacing is exactly
    `spacing_mm * volume.shape / result.shape`, and `to_shape` undoes it without a shift.

    Args:
        volume: [D, H, W], as in `to_shape`.
        spacing_mm: along D, H and W.
        wanted_mm: along D, H and W; 0 keeps an axis as it is.
        labels: as in `to_shape`.

    Returns:
        `to_shape(volume, shape)` for shape = round(D * spacing / wanted), at least 1 voxel.

    Raises:
        ValueError: not three axes; a spacing that is not positive; a wanted one that is negative.
    """
    if not len(spacing_mm) == len(wanted_mm) == volume.ndim == 3:
        raise ValueError(
            f"want a volume and two spacings of three axes, got {volume.shape}, {spacing_mm} "
            f"and {wanted_mm}."
        )
    if not min(spacing_mm) > 0 or not min(wanted_mm) >= 0:
        raise ValueError(f"want spacings in mm, got {spacing_mm} to {wanted_mm}.")
    axes = zip(volume.shape, spacing_mm, wanted_mm, strict=True)
    shape = tuple(max(1, round(n * mm / want)) if want else n for n, mm, want in axes)
    return to_shape(volume, shape, labels=labels)


def to_shape(volume: np.ndarray, shape: tuple[int, int, int], *, labels: bool) -> np.ndarray:
    """A volume sampled at the centres of `shape` voxels that fill the same box.

    CT and probabilities linearly between voxel centres, labels (bits of `data.record`) from the
    nearest one; beyond the outermost centres the edge goes on. Nothing is smoothed before
    shrinking (our choice, as nnU-Net has it).

    Args:
        volume: [D, H, W] of int16, uint8, float32 or another dtype that SciPy has.
        shape: D, H and W of the result, each at least 1.
        labels: whether values are names, not amounts.

    Returns:
        [*shape] of the same dtype, integers rounded; `volume` itself if that is its shape.

    Raises:
        ValueError: not three axes, or an empty one.
    """
    if not volume.ndim == len(shape) == 3 or min(*volume.shape, *shape) < 1:
        raise ValueError(f"want [D, H, W] without empty axes, got {volume.shape} to {shape}.")
    if volume.shape == tuple(shape):
        return volume
    # Voxels per voxel; the centre of the first one lies half of its own size into the box.
    step = np.divide(volume.shape, shape)
    return ndimage.affine_transform(
        volume, step, step / 2 - 0.5, shape, order=0 if labels else 1, mode="nearest"
    )
