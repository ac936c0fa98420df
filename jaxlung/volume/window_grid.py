"""Positions of overlapping windows in a volume, and the weights of their voxels; on the host."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

LEAST_WEIGHT = 1e-3  # at a window's ends along one axis; 1 at its middle


def starts(shape: Sequence[int], window: Sequence[int], overlap: float) -> list[np.ndarray]:
    """Returns the first voxels of windows along D, H and W, [K] int32 each.

    The first window begins at 0, the last one ends with the volume, and steps between them are
    even and at most `length * (1 - overlap)`. An axis shorter than the window has one window.

    Args:
        shape: shape of the volume.
        window: voxels of a window along D, H and W.
        overlap: least share of a window that the next one covers again, in [0, 1).
    """
    return [_along(*axis, overlap) for axis in zip(shape, window, strict=True)]


def corners(
    starts: Sequence[np.ndarray], window: Sequence[int], within: np.ndarray | None
) -> np.ndarray:
    """Returns the first voxels of windows that hold a voxel of `within`, [K, 3] int32, W fastest.

    Args:
        starts: the result of `starts`.
        window: voxels of a window along D, H and W.
        within: [D, H, W] bool; None for all windows.
    """
    everywhere = np.array(list(itertools.product(*starts)), np.int32)
    if within is None:
        return everywhere
    held = within  # [D, H, W], then [H, W, windows along D], and so on for each axis.
    for firsts, length in zip(starts, window, strict=True):
        held = np.stack([held[i : i + length].any(axis=0) for i in firsts], axis=-1)
    return everywhere[held.ravel()]


def gaussian(length: int) -> np.ndarray:
    """Returns Gaussian weights along one axis, [length] float32 in [LEAST_WEIGHT, 1]."""
    from_middle = np.arange(length) - (length - 1) / 2
    weights = np.exp(-0.5 * (from_middle / (length / 8)) ** 2)
    return np.maximum(weights, LEAST_WEIGHT).astype(np.float32)


def sums(
    shape: Sequence[int], starts: Sequence[np.ndarray], window: Sequence[int]
) -> list[np.ndarray]:
    """Returns the sums of all windows' weights along D, H and W, float32 [D], [H], [W].

    Windows are all combinations of starts, and a voxel's weight is a product over axes, so the sum
    of weights at a voxel is the product of these three. A sum is 1 where no window is.

    Args:
        shape: shape of the volume, at least that of a window.
        starts: the result of `starts`.
        window: voxels of a window along D, H and W.
    """
    return [_sum(*axis) for axis in zip(shape, starts, window, strict=True)]


def combinations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns all subsets of the axes, from none to all."""
    counts = range(len(axes) + 1)
    return [tuple(c) for count in counts for c in itertools.combinations(axes, count)]


def _along(size: int, length: int, overlap: float) -> np.ndarray:
    step = max(1, round(length * (1 - overlap)))
    last = max(0, size - length)
    count = math.ceil(last / step) + 1
    # Rounding down leaves no step longer than `step`, so no voxel is skipped.
    return (np.arange(count) * last // max(1, count - 1)).astype(np.int32)


def _sum(size: int, starts: np.ndarray, length: int) -> np.ndarray:
    sums = np.zeros(size, np.float64)
    for start in starts:
        sums[start : start + length] += gaussian(length)
    return np.where(sums > 0, sums, 1).astype(np.float32)
