"""Draws one phantom chest X-ray with its lung and infection masks.

The attenuation of a generated thorax (`chest_anatomy`, `chest_disease`) is shown on a film.
Exposure, contrast, local enhancement, blur, noise, collimation and a side marker all vary, so that
lungs have no fixed grey level.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfds_builders.phantoms import chest_anatomy, chest_disease

Rng = np.random.Generator

FINDINGS = ("infection", "lobar", "none")


@dataclasses.dataclass(frozen=True)
class ChestXray:
    """A phantom X-ray.

    Attributes:
        image: [S, S] uint8, brighter is denser.
        lung_mask: [S, S] bool, without the heart's shadow.
        infection_mask: [S, S] bool, within the lungs; empty unless the finding is "infection".
    """

    image: np.ndarray
    lung_mask: np.ndarray
    infection_mask: np.ndarray


def make(rng: Rng, size: int, finding: str) -> ChestXray:
    """Makes one phantom; equal generators give equal phantoms.

    Args:
        rng: generator.
        size: height and width in pixels, at least 16.
        finding: one of `FINDINGS`.

    Raises:
        ValueError: an unknown finding, or `size` too small.
    """
    if finding not in FINDINGS:
        raise ValueError(f"finding: want one of {', '.join(FINDINGS)}, got {finding!r}.")
    if size < 16:
        raise ValueError(f"size: want at least 16 pixels, got {size}.")
    frame = chest_anatomy.make_frame(rng, size)
    lungs = chest_anatomy.make_lungs(rng, frame)
    filled, infection_mask = np.zeros_like(frame.x), np.zeros(frame.x.shape, bool)
    if finding == "infection":
        filled, infection_mask = chest_disease.infection(rng, frame, lungs)
    elif finding == "lobar":
        filled = chest_disease.lobar_pneumonia(rng, frame, lungs)
    density = _attenuation(rng, frame, lungs, filled)
    return ChestXray(_film(rng, density), lungs.depth > 0, infection_mask)


def _attenuation(
    rng: Rng, frame: chest_anatomy.Frame, lungs: chest_anatomy.Lungs, filled: np.ndarray
) -> np.ndarray:
    """Returns the attenuation along the beam, [S, S] float32."""
    depth = np.clip(lungs.depth, 0, None)
    air = chest_anatomy.step(lungs.depth, 0.012) * (0.55 + 0.45 * np.tanh(depth / 0.12))
    haze = 0.06 * chest_anatomy.smooth_noise(rng, len(frame.x), 40)
    vessels = chest_anatomy.vessels(rng, frame) * rng.uniform(0.15, 0.35)
    air = air * (1 - filled) * np.clip(1 - vessels - haze, 0, 1)
    tissue = chest_anatomy.trunk(rng, frame, lungs)
    density = tissue - rng.uniform(0.4, 0.62) * air
    density = density + chest_anatomy.organs(rng, frame, lungs)
    density = density + chest_anatomy.bones(rng, frame, lungs) * np.clip(tissue, 0, 1)
    return density + _lines(rng, frame)


def _lines(rng: Rng, frame: chest_anatomy.Frame) -> np.ndarray:
    """Draws leads and tubes on some patients."""
    strokes = []
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        corners = rng.uniform(-0.9, 0.9, (4, 2))
        t = np.linspace(0, 1, 24)[:, None]
        bezier = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        curve = sum(b * corner for b, corner in zip(bezier, corners, strict=True))
        strokes.append((curve, rng.uniform(0.006, 0.016)))
    return 0.3 * frame.draw(strokes, 0.006)


def _film(rng: Rng, density: np.ndarray) -> np.ndarray:
    """Returns the density as a detector and its software show it, [S, S] uint8."""
    size = len(density)
    coarse = Image.fromarray(density).resize((8, 8), Image.Resampling.BOX)
    local = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    film = density - rng.uniform(0, 0.55) * local
    ends = [rng.uniform(0, 0.12), rng.uniform(0.9, 0.995)]
    low, high = np.quantile(film[::4, ::4], ends).astype(np.float32)
    film = np.clip((film - low) / (high - low), 0, 1) ** rng.uniform(0.6, 1.5)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    film = film + rng.normal(0, 0.05) * axis[:, None] + rng.normal(0, 0.05) * axis
    film = rng.uniform(0, 0.25) + rng.uniform(0.6, 0.85) * film
    film = film + rng.uniform(0.005, 0.03) * rng.standard_normal(film.shape, np.float32)
    canvas = Image.fromarray(np.clip(255 * film, 0, 255).astype(np.uint8))
    canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0) * size / 256))
    _collimate(rng, canvas)
    return np.array(canvas)


def _collimate(rng: Rng, canvas: Image.Image) -> None:
    """Draws black borders and a side marker on some films."""
    size, pen = canvas.width, ImageDraw.Draw(canvas)
    if rng.uniform() < 0.3:
        left, top, right, bottom = (rng.uniform(0, 0.05, 4) * size).astype(int)
        keep = canvas.crop((left, top, size - right, size - bottom))
        canvas.paste(int(rng.integers(0, 20)), (0, 0, size, size))
        canvas.paste(keep, (left, top))
    if rng.uniform() < 0.5:
        letter, x = [("R", 0.06), ("L", 0.86)][rng.integers(2)]
        place = (x * size, rng.uniform(0.03, 0.2) * size)
        pen.text(place, letter, fill=240, font_size=max(6, size * rng.uniform(0.05, 0.09)))
