"""Draws the branching tubes of a phantom chest: vessels and airways."""

import dataclasses
from collections.abc import Sequence

import numpy as np

_GENERATIONS = 6
_TRUNKS = (  # To apex, front, side and base: along D, H and away from the midline.
    (0.8, 0.1, 0.6),
    (0.2, -0.7, 0.7),
    (-0.1, 0.3, 1.0),
    (-0.8, 0.4, 0.5),
)


@dataclasses.dataclass(frozen=True)
class Tube:
    """A straight piece of tube with round ends.

    Attributes:
        start: [3] position of one end along D, H, W, mm.
        end: [3] position of the other end along D, H, W, mm.
        radius_mm: radius of the round cross-section, mm.
    """

    start: np.ndarray
    end: np.ndarray
    radius_mm: float


def grow(np_rng: np.random.Generator, start: np.ndarray, sign: int, length_mm: float) -> list[Tube]:
    """Draws the vessels of one lung, which fork outwards from its hilum.

    Args:
        np_rng: generator.
        start: [3] position of the hilum along D, H, W, mm.
        sign: 1 for the lung at higher W, -1 for the other.
        length_mm: length of the first generation, mm; later ones are shorter.
    """
    tubes = []
    tips = [(start, np.asarray(d) * (1, 1, sign), length_mm, 6.5) for d in _TRUNKS]
    for _ in range(_GENERATIONS):
        forked = []
        for tip, direction, length, radius in tips:
            direction = direction / np.linalg.norm(direction)
            end = tip + length * np_rng.uniform(0.7, 1.1) * direction
            tubes.append(Tube(tip, end, radius))
            for _ in range(2):
                bend = 0.55 * np_rng.standard_normal(3)
                forked.append((end, direction + bend, 0.72 * length, 0.76 * radius))
        tips = forked
    return tubes


def coverage(
    tubes: Sequence[Tube], axes_mm: Sequence[np.ndarray], shape: Sequence[int]
) -> np.ndarray:
    """Returns approximately the share of each voxel that tubes fill; less for thin tubes.

    Args:
        tubes: tubes in the frame of `axes_mm`; they may leave the volume.
        axes_mm: positions of voxels along D, H, W, mm, evenly spaced and increasing.
        shape: D, H, W in voxels.

    Returns:
        [D, H, W] float32 in [0, 1].
    """
    share = np.zeros(tuple(shape), np.float32)
    voxel_mm = np.mean([axis[1] - axis[0] for axis in axes_mm])
    for tube in tubes:
        box = tuple(_reach(tube, axis, i, voxel_mm) for i, axis in enumerate(axes_mm))
        near = [axis[part] for axis, part in zip(axes_mm, box, strict=True)]
        distance = _distance_mm(tube, near)
        filled = np.clip(0.5 + (tube.radius_mm - distance) / voxel_mm, 0, 1)
        filled *= min(1, (2 * tube.radius_mm / voxel_mm) ** 2)
        share[box] = np.maximum(share[box], filled)
    return share


def _reach(tube: Tube, axis_mm: np.ndarray, i: int, voxel_mm: float) -> slice:
    """Returns the voxels along one axis that the tube can touch."""
    margin = tube.radius_mm + voxel_mm
    low, high = sorted((tube.start[i], tube.end[i]))
    return slice(*np.searchsorted(axis_mm, (low - margin, high + margin)))


def _distance_mm(tube: Tube, axes_mm: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the distance of every voxel of a box to the centre line of a tube, mm."""
    points = np.stack(np.meshgrid(*axes_mm, indexing="ij"), axis=-1)
    course = tube.end - tube.start
    along = np.clip((points - tube.start) @ course / (course @ course), 0, 1)
    return np.linalg.norm(points - tube.start - along[..., None] * course, axis=-1)
