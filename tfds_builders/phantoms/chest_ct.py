"""Draws a chest CT of a patient with COVID-19: thorax, lungs, ground glass and consolidation.

Shapes, HU values and sizes are our choice and resemble real scans. Vessels, dependent (posterior)
haze and walls in thick slices have the same HU as infection, so no threshold separates it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tfds_builders.phantoms import chest_tubes

LEFT, RIGHT = 1, 2  # Labels of the lungs.
MIN_SHAPE = (8, 32, 32)

_AIR_HU, _FAT_HU, _MUSCLE_HU, _BLOOD_HU, _LIVER_HU = -1000, -100, 45, 40, 60
_POINT_SPREAD = 0.6  # Standard deviation in voxels, along every axis.
_NOISE_HU = 22
_MAX_BLOBS = 60


@dataclasses.dataclass(frozen=True)
class ChestCT:
    """One scan, arrays [D, H, W]: D to the patient's superior, H to posterior, W to left.

    Attributes:
        image: int16 HU.
        lung_mask: uint8, 0, `LEFT` or `RIGHT`; includes infection.
        infection_mask: uint8, 0 or 1; only within the lungs.
    """

    image: np.ndarray
    lung_mask: np.ndarray
    infection_mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Positions of voxels: u to the left, v to the back, in half body widths; t, 0 to 1, up."""

    u: np.ndarray  # [1, 1, W]
    v: np.ndarray  # [1, H, 1]
    t: np.ndarray  # [D, 1, 1]
    half_width_mm: float
    height_mm: float

    def points_mm(self, points: npt.ArrayLike) -> np.ndarray:
        """Returns [..., 3] points (t, v, u) in mm along D, H, W from the frame's origin."""
        scale = (self.height_mm, self.half_width_mm, self.half_width_mm)
        return np.asarray(points) * np.asarray(scale)

    def axes_mm(self) -> list[np.ndarray]:
        """Returns the positions of voxels along D, H, W, mm."""
        positions = (self.t * self.height_mm, self.v * self.half_width_mm)
        return [x.ravel() for x in (*positions, self.u * self.half_width_mm)]


@dataclasses.dataclass(frozen=True)
class _Lungs:
    """Both lungs.

    Attributes:
        label: [D, H, W] uint8, 0, `LEFT` or `RIGHT`.
        wall_mm: [D, H, W] float32, roughly the distance to the ribs, mm; 0 outside the lungs.
    """

    label: np.ndarray
    wall_mm: np.ndarray


def make(
    np_rng: np.random.Generator,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    infected: float,
    *,
    has_table: bool = True,
) -> ChestCT:
    """Draws one scan.

    Args:
        np_rng: generator; equal generators give equal scans.
        shape: D, H, W in voxels; the body fills the width.
        spacing_mm: spacing along D, H, W, mm.
        infected: approximate share of the lungs that is infected, above 0; at least one voxel is.
        has_table: True draws the table that the patient lies on.

    Raises:
        ValueError: `shape` is smaller than `MIN_SHAPE`.
    """
    if any(got < least for got, least in zip(shape, MIN_SHAPE, strict=True)):
        raise ValueError(f"shape: want at least {MIN_SHAPE}, got {tuple(shape)}.")
    frame = _make_frame(np_rng, shape, spacing_mm)
    image = _paint_trunk(np_rng, frame, has_table)
    heart = _heart(np_rng, frame)
    lungs = _make_lungs(np_rng, frame, heart)
    image = _paint_lungs(np_rng, frame, lungs, image)
    image, infection = _infect(np_rng, frame, lungs, image, infected, spacing_mm)
    image = ndimage.gaussian_filter(image, _POINT_SPREAD)
    image += _NOISE_HU * np_rng.standard_normal(image.shape, np.float32)
    image = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return ChestCT(image, lungs.label, infection.astype(np.uint8))


def _make_frame(
    np_rng: np.random.Generator, shape: Sequence[int], spacing_mm: Sequence[float]
) -> _Frame:
    depth, height, width = shape
    half_width_mm = width * spacing_mm[2] / 2 * np_rng.uniform(0.88, 0.96)
    shift = np_rng.uniform(-0.03, 0.03, 2)

    def centred(size: int, step_mm: float) -> np.ndarray:
        return ((np.arange(size) - (size - 1) / 2) * step_mm / half_width_mm).astype(np.float32)

    return _Frame(
        u=(centred(width, spacing_mm[2]) + shift[0])[None, None, :],
        v=(centred(height, spacing_mm[1]) + shift[1])[None, :, None],
        t=((np.arange(depth) + 0.5) / depth).astype(np.float32)[:, None, None],
        half_width_mm=half_width_mm,
        height_mm=depth * spacing_mm[0],
    )


def _ellipse(
    u: np.ndarray, v: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Returns the distance from `centre` (u, v), 1 on the ellipse."""
    return np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1])


def _paint_trunk(np_rng: np.random.Generator, frame: _Frame, has_table: bool) -> np.ndarray:
    """Draws everything but lungs, their vessels and airways: [D, H, W] float32 HU."""
    u, v, t = frame.u, frame.v, frame.t
    depth = np.broadcast_to(t, (t.size, v.size, u.size))
    rim = _ellipse(u, v, (0, 0), (1, np_rng.uniform(0.68, 0.74)))
    image = np.full(depth.shape, _AIR_HU, np.float32)
    if has_table:
        image[(np.abs(v - 0.8 - 0.08 * u**2) < 0.03) & (np.abs(u) < 0.9) & (depth >= 0)] = -350
    image[(rim < 1) & (depth >= 0)] = _FAT_HU
    image[(rim < np_rng.uniform(0.86, 0.93)) & (depth >= 0)] = _MUSCLE_HU
    image += np.where(image > 0, np_rng.uniform(-10, 10), 0)
    # Ribs slope down towards the front, so a slice cuts several.
    height = depth * frame.height_mm + 55 * v
    in_rib = (np.mod(height + np_rng.uniform(0, 26), 26) < 10) & (rim > 0.80) & (rim < 0.86)
    image[in_rib] = 380
    image[(np.abs(_ellipse(u, v, (0, 0.45), (0.13, 0.12))) < 1) & (depth >= 0)] = 260
    image[(_ellipse(u, v, (0, 0.60), (0.05, 0.05)) < 1) & (depth >= 0)] = 20  # Spinal canal.
    image[(_ellipse(u, v, (0, -0.58), (0.10, 0.04)) < 1) & (depth > 0.3)] = 220  # Sternum.
    return image


def _heart(np_rng: np.random.Generator, frame: _Frame) -> np.ndarray:
    """Draws the heart, mostly on the left, and the aorta beside the spine: [D, H, W] bool."""
    size = np_rng.uniform(0.85, 1.1)
    flat = _ellipse(frame.u, frame.v, (0.12, -0.22), (0.33 * size, 0.26 * size))
    heart = flat**2 + ((frame.t - 0.34) / (0.24 * size)) ** 2 < 1
    aorta = _ellipse(frame.u, frame.v, (0.12, 0.28), (0.065, 0.065)) < 1
    return heart | (aorta & (frame.t < 0.72))


def _make_lungs(np_rng: np.random.Generator, frame: _Frame, heart: np.ndarray) -> _Lungs:
    u, v, t = frame.u, frame.v, frame.t
    label = np.zeros(heart.shape, np.uint8)
    wall_mm = np.zeros(heart.shape, np.float32)
    narrowing = np.sqrt(np.maximum(0, 1 - np.clip((t - 0.3) / 0.64, 0, 1) ** 2.6))
    for side, sign in ((LEFT, 1), (RIGHT, -1)):
        half_width, half_depth = np_rng.uniform(0.32, 0.36), np_rng.uniform(0.48, 0.53)
        wall = (narrowing - _ellipse(u, v, (sign * 0.43, 0.02), (half_width, half_depth))) * (
            half_width * frame.half_width_mm
        )
        # The diaphragm's dome; the liver lifts the right one.
        dome = np_rng.uniform(0.18, 0.24) + 0.05 * (side == RIGHT)
        floor = dome * np.exp(-(_ellipse(u, v, (sign * 0.42, -0.06), (0.32, 0.42)) ** 2)) + 0.02
        # Mediastinum between the lungs, spine and aorta behind it.
        inside = (wall > 0) & (t > floor) & (sign * u > 0.11 + 0.05 * (t > 0.6)) & ~heart
        inside &= _ellipse(u, v, (0, 0.45), (0.19, 0.18)) > 1
        label[inside] = side
        wall_mm[inside] = wall[inside]
    return _Lungs(label, wall_mm)


def _paint_lungs(
    np_rng: np.random.Generator, frame: _Frame, lungs: _Lungs, image: np.ndarray
) -> np.ndarray:
    """Returns the image with liver, spleen, parenchyma, vessels and airways added."""
    shape, inside = image.shape, lungs.label > 0
    below = (frame.t < 0.36) & (_ellipse(frame.u, frame.v, (0, 0.02), (0.78, 0.54)) < 1)
    image = np.where(below & ~inside & (image < 100), np.float32(_LIVER_HU), image)
    gradient = 45 * frame.v - 30 * frame.t + np.zeros(shape, np.float32)
    air = np_rng.uniform(-890, -790) + gradient + 30 * _smooth_noise(np_rng, shape, 2)
    haze = np_rng.uniform(50, 420) * np.exp(-lungs.wall_mm / 9) * np.clip(frame.v / 0.3, 0, 1)
    image = np.where(inside, air + haze, image)
    for label, sign in ((LEFT, 1), (RIGHT, -1)):
        start = frame.points_mm((0.55, 0.05, sign * 0.14))
        branches = chest_tubes.grow(np_rng, start, sign, frame.half_width_mm * 0.25)
        share = chest_tubes.coverage(branches, frame.axes_mm(), shape)
        image += np.where(lungs.label == label, share * (_BLOOD_HU - image), 0)
    return _paint_airways(frame, image)


def _paint_airways(frame: _Frame, image: np.ndarray) -> np.ndarray:
    """Draws trachea and main bronchi, which are as dark as lungs but not annotated."""
    carina = (0.62, 0.10, 0.0)
    ends = (1.05, 0.12, 0.0), (0.50, 0.08, 0.24), (0.48, 0.08, -0.22)
    radii_mm = 8.0, 5.5, 6.0
    pairs = [frame.points_mm((carina, end)) for end in ends]
    for extra_mm, hu in ((2.0, 0), (0.0, -970)):  # The wall, then the air inside.
        tubes = [
            chest_tubes.Tube(start, end, radius + extra_mm)
            for (start, end), radius in zip(pairs, radii_mm, strict=True)
        ]
        share = chest_tubes.coverage(tubes, frame.axes_mm(), image.shape)
        image = image + share * (hu - image)
    return image


def _infect(
    np_rng: np.random.Generator,
    frame: _Frame,
    lungs: _Lungs,
    image: np.ndarray,
    infected: float,
    spacing_mm: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image with opacities added, and their mask, [D, H, W] bool."""
    inside = lungs.label > 0
    # Infection is more frequent near the ribs, at the back and at the base.
    weights = np.exp(-lungs.wall_mm / 18) * np.exp(1.2 * frame.v - 1.0 * frame.t) * inside
    chances = np.cumsum(weights.ravel())
    mask = np.zeros(inside.shape, bool)
    largest_mm = 12 if infected < 0.01 else 38
    for _ in range(_MAX_BLOBS):
        if mask.sum() >= max(1, infected * inside.sum()):
            break
        place = np.searchsorted(chances, np_rng.uniform(0, chances[-1]), side="right")
        centre = np.unravel_index(min(place, chances.size - 1), inside.shape)
        radii_mm = np_rng.uniform(0.5, 1, 3) * largest_mm
        box, field = _blob(np_rng, inside.shape, centre, radii_mm / spacing_mm)
        blob = inside[box] & (field > 0)
        opacity = np.maximum(image[box], _opacity(np_rng, field))
        image[box] = np.where(blob, opacity, image[box])
        mask[box] |= blob
    return image, mask


def _blob(
    np_rng: np.random.Generator, shape: tuple, centre: Sequence[int], radii: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Returns a box, and a float32 field in it that is positive within a lump of ragged edge.

    `radii` are in voxels; the lump extends at most 1.4 times as far.
    """
    box = tuple(
        slice(max(0, int(c - 1.4 * r)), min(size, int(c + 1.4 * r) + 2))
        for size, c, r in zip(shape, centre, radii, strict=True)
    )
    grid = np.ogrid[box]
    terms = [((x - c) / r) ** 2 for x, c, r in zip(grid, centre, radii, strict=True)]
    distance = terms[0] + terms[1] + terms[2]
    ragged = np.clip(_smooth_noise(np_rng, distance.shape, 2.5), -1.8, 1.8)
    return box, (1 - distance + 0.45 * ragged).astype(np.float32)


def _opacity(np_rng: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """Draws an opacity in HU: ground glass, -700 to -500, in some with a core of about 0."""
    glass = np_rng.uniform(-700, -500) + 40 * _smooth_noise(np_rng, field.shape, 1.2)
    opacity = glass - 120 * np.clip(1 - field / 0.4, 0, 1)  # Fainter towards its edge.
    if np_rng.random() < 0.45:
        solid = np.clip((field - np_rng.uniform(0.35, 0.7)) / 0.2, 0, 1)
        opacity += solid * (np_rng.uniform(-50, 50) - opacity)
    return opacity


def _smooth_noise(np_rng: np.random.Generator, shape: tuple, sigma: float) -> np.ndarray:
    """Draws [D, H, W] float32 noise of about unit variance, smooth over `sigma` voxels."""
    noise = ndimage.gaussian_filter(np_rng.standard_normal(shape, np.float32), sigma)
    return noise * np.float32((2 * sigma * np.sqrt(np.pi)) ** 1.5)
