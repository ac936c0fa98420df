"""Normalised surface distance with pieces of surface weighed by their area, on the host.

This is the definition of Nikolov et al. (J. Med. Internet Res. 2021; arXiv:1809.04430, "surface
Dice at tolerance"), with the numbers of their code, github.com/google-deepmind/surface-distance.
`_CASES` is its table of triangles (Copyright 2018 Google Inc., Apache License 2.0). "nsd" of
`surface` counts surface voxels of equal weight instead; `surface` says what differs.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jaxlung.metrics import surface

# Triangles between 2 x 2 x 2 voxels, from marching cubes: vectors normal to each triangle whose
# length is its area, without signs, in eighths of a voxel's faces. The key's bits are the voxels
# inside, the first one (0, 0, 0) the highest. All other cases are rotated, mirrored or inside out.
_CASES = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3)),
    0b00011110: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}


def nsd_by_area(
    pred: np.ndarray,
    reference: np.ndarray,
    spacing_mm: float | Sequence[float],
    tolerance_mm: float,
) -> float:
    """Returns the share of both surfaces' area that is within a tolerance of the other surface.

    In 2D it is the share of both outlines' length. Pieces of surface lie between voxels, and the
    distance of one is that to the nearest piece of the other surface. Two empty masks score 1:
    finding nothing was right. If only one of them is empty, the score is 0.

    Args:
        pred: [H, W] or [D, H, W] bool.
        reference: [H, W] or [D, H, W] bool, the shape of `pred`.
        spacing_mm: size of a voxel along each axis in mm, or one number for all axes.
        tolerance_mm: tolerance in mm, 0 or more.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: see `surface.surface_scores`.
    """
    spacing = surface.check(pred, reference, spacing_mm, tolerance_mm)
    if not (pred.any() and reference.any()):
        return 0.0 if pred.any() or reference.any() else 1.0
    box = surface.bounding_box(pred | reference)
    table = _areas(spacing) if pred.ndim == 3 else _lengths(spacing)
    areas = [table[_codes(mask[box])] for mask in (pred, reference)]
    surfaces = [area > 0 for area in areas]
    within = 0.0
    for i, j in ((0, 1), (1, 0)):
        apart = surface.distances(surfaces[i], surfaces[j], spacing)
        within += areas[i][surfaces[i]][apart <= tolerance_mm + surface.ROUNDING_MM].sum()
    return min(1.0, float(within / sum(area.sum() for area in areas)))  # Rounding may exceed 1.


def _codes(mask: np.ndarray) -> np.ndarray:
    """Returns the 2 x 2 (x 2) voxels around each corner of voxels as bits, uint8."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for offsets in itertools.product((0, 1), repeat=mask.ndim):
        codes <<= 1
        codes |= padded[tuple(slice(x, x + n) for x, n in zip(offsets, codes.shape, strict=True))]
    return codes


@functools.cache
def _triangles() -> np.ndarray:
    """Returns the normals by code, [256, 4, 3] float64, from `_CASES` and their symmetries."""
    table = np.zeros((256, 4, 3))
    mirrors = list(itertools.product((1, -1), repeat=3))
    for code, normals in _CASES.items():
        cube = np.unpackbits(np.uint8(code)).reshape(2, 2, 2)
        for axes, (i, j, k) in itertools.product(itertools.permutations(range(3)), mirrors):
            (turned,) = np.packbits(cube.transpose(axes)[::i, ::j, ::k])
            for same in (turned, 255 - turned):
                table[same, : len(normals)] = np.array(normals)[:, axes] / 8
    return table


def _areas(spacing: np.ndarray) -> np.ndarray:
    """Returns the area in mm^2 by code, [256]."""
    faces = math.prod(spacing) / spacing
    return np.linalg.norm(_triangles() * faces, axis=-1).sum(axis=-1)


def _lengths(spacing: np.ndarray) -> np.ndarray:
    """Returns the length in mm of the outline between 2 x 2 pixels by code, [16]."""
    down, across = spacing
    slant = math.hypot(down, across) / 2
    table = np.full(16, slant)  # Around one pixel, or all but one.
    table[[0b0000, 0b1111]] = 0
    table[[0b0011, 0b1100]] = across
    table[[0b0101, 0b1010]] = down
    table[[0b0110, 0b1001]] = 2 * slant
    return table
