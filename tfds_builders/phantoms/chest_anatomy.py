"""Draws the thorax of one generated patient, as maps of the beam's attenuation by each part.

Positions are in the thorax frame: x from -1 (image left, the patient's right) to 1, y from -1
(neck) to 1 (abdomen), origin between the lungs. The trunk's attenuation is the unit.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Frame:
    """The position of every pixel in the thorax.

    Attributes:
        x: [S, S] float32, x of each pixel in the thorax frame.
        y: [S, S] float32, y of each pixel in the thorax frame.
        matrix: [2, 2] float64, maps an image position in [-1, 1] to the thorax frame.
        shift: [2] float64, added after `matrix`.
    """

    x: np.ndarray
    y: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray

    def draw(self, strokes: list[tuple[np.ndarray, float]], blur: float) -> np.ndarray:
        """Draws lines of the thorax frame as an image.

        Args:
            strokes: pairs of [N, 2] points (x, y) and a width, both in the thorax frame.
            blur: half the width of an edge, in units of the thorax frame.

        Returns:
            [S, S] float32 in [0, 1].
        """
        size = len(self.x)
        canvas, inverse = Image.new("L", (size, size)), np.linalg.inv(self.matrix).T
        pen = ImageDraw.Draw(canvas)
        for points, width in strokes:
            pixels = ((points - self.shift) @ inverse + 1) * (size / 2)
            pen.line(pixels.ravel().tolist(), fill=255, width=max(1, round(width * size / 2)))
        canvas = canvas.filter(ImageFilter.BoxBlur(blur * size / 2))
        return np.asarray(canvas, np.float32) / np.float32(255)


@dataclasses.dataclass(frozen=True)
class Lungs:
    """Both lungs, as signed depths: positive inside, roughly the distance to the edge.

    Attributes:
        right: [S, S] float32, the patient's right lung, on the image's left.
        left: [S, S] float32, the patient's left lung, on the image's right.
        diaphragm: [S, S] float32, positive below the diaphragm.
        heart: [S, S] float32, positive inside the heart and the great vessels.
        half_width: greatest distance of a lung from the midline, in the thorax frame.
    """

    right: np.ndarray
    left: np.ndarray
    diaphragm: np.ndarray
    heart: np.ndarray
    half_width: float

    @property
    def depth(self) -> np.ndarray:
        """Depth in either lung: [S, S] float32, positive inside."""
        return np.maximum(self.right, self.left)


def smooth_noise(rng: Rng, size: int, cells: int) -> np.ndarray:
    """Returns [size, size] float32: unit normal at `cells` x `cells` nodes, bicubic between."""
    nodes = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(Image.fromarray(nodes).resize((size, size), Image.Resampling.BICUBIC))


def step(depth: np.ndarray, softness: float) -> np.ndarray:
    """Returns 0 outside, 1 inside, 0.5 at depth 0; `softness` is half the width of the edge."""
    return 0.5 + 0.5 * np.tanh(depth * (1 / softness))


def make_frame(rng: Rng, size: int) -> Frame:
    """Draws the pose of a patient: rotated, shifted, scaled and bent a little."""
    angle = np.deg2rad(rng.normal(0, 3))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(1 / rng.uniform([0.85, 0.88], [1.18, 1.15]))
    shift = rng.uniform([-0.07, -0.1], [0.07, 0.08])
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    column, row = np.meshgrid(axis, axis)
    x, y = (a * column + b * row + c for (a, b), c in zip(matrix, shift, strict=True))
    bend = rng.normal(0, 0.03) * y**2  # Scoliosis, or a patient who leans.
    x = x + bend + 0.012 * smooth_noise(rng, size, 5)
    y = y + 0.012 * smooth_noise(rng, size, 5)
    return Frame(x.astype(np.float32), y.astype(np.float32), matrix, shift)


def _ellipse(frame: Frame, center: tuple, radii: tuple, degrees: float = 0.0) -> np.ndarray:
    """Returns roughly the depth inside an ellipse, in the thorax frame."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dx, dy = frame.x - center[0], frame.y - center[1]
    along = (dx * cos + dy * sin) / radii[0]
    across = (dy * cos - dx * sin) / radii[1]
    return (1 - np.sqrt(along**2 + across**2)) * min(radii)


def _blend(depths: list[np.ndarray]) -> np.ndarray:
    """Returns the depth inside the union of shapes, with the corners between them filled."""
    return np.float32(0.03) * np.log(sum(np.exp(depth / 0.03) for depth in depths))


def _heart(rng: Rng, frame: Frame, floor: float) -> np.ndarray:
    """Draws the depth inside the heart, the aortic knob and the mediastinum."""
    size = rng.uniform(0.8, 1.2)
    y = floor - 0.17 * size
    ventricles = _ellipse(frame, (0.14 * size, y), (0.4 * size, 0.24 * size), rng.uniform(25, 50))
    atrium = _ellipse(frame, (-0.04, y - 0.02), (0.15 * size, 0.26 * size))
    trunk_of_lung = _ellipse(frame, (0.08, y - 0.27), (0.09, 0.14))
    knob = _ellipse(frame, (0.08, y - 0.46), (rng.uniform(0.05, 0.1), 0.1))
    half_width = rng.uniform(0.06, 0.11) + 0.06 * np.abs(frame.y + 0.15)
    return _blend([ventricles, atrium, trunk_of_lung, knob, half_width - np.abs(frame.x)])


def _lung(rng: Rng, frame: Frame, side: int, top: float, floor: float, width: float) -> tuple:
    """Draws the depth inside one lung, with the heart still in it, and below its diaphragm."""
    u, y = side * frame.x, frame.y
    apex = rng.uniform(0.27, 0.34)
    fall = floor + 0.25 - top
    t = np.clip((y - top) / fall, 0, 1)
    lateral = apex + (width - apex) * (1 - (1 - t) ** rng.uniform(2.2, 3)) ** 0.6
    medial = apex - (apex - 0.06) * np.sqrt(1 - np.square(np.square(1 - t)))
    crown = rng.uniform(0.25, 0.4)
    outer, inner = rng.uniform(0.18, 0.36) / (width - crown) ** 2, 0.1 / (width - crown) ** 2
    off = u - crown
    below = y - floor - off**2 * np.where(off > 0, np.float32(outer), np.float32(inner))
    return np.minimum.reduce([lateral - u, u - medial, -below, (y - top) * 1.5]), below


def make_lungs(rng: Rng, frame: Frame) -> Lungs:
    """Draws two lungs of different height and width around a heart."""
    top, floor = rng.uniform(-0.82, -0.7), rng.uniform(0.3, 0.56)
    width = rng.uniform(0.66, 0.82)
    heart = _heart(rng, frame, floor)
    right, below_right = _lung(rng, frame, -1, top, floor - rng.uniform(0, 0.08), width)
    left, below_left = _lung(
        rng, frame, 1, top + rng.normal(0, 0.02), floor, width * rng.uniform(0.9, 1.02)
    )
    return Lungs(
        right=np.minimum(right, -heart),
        left=np.minimum(left, -heart),
        diaphragm=np.where(frame.x < 0, below_right, below_left),
        heart=heart,
        half_width=width,
    )


def trunk(rng: Rng, frame: Frame, lungs: Lungs) -> np.ndarray:
    """Draws soft tissue of neck, shoulders, trunk and abdomen: [S, S] float32, 0 for air."""
    u, y = np.abs(frame.x), frame.y
    fat = rng.uniform(0.1, 0.3)
    shoulder = step(y + rng.uniform(0.82, 0.95) - 0.25 * u**2, 0.07)
    width = 0.3 + (lungs.half_width + fat - 0.3) * shoulder
    body = np.sqrt(np.clip(1 - np.square(np.square(u / width)), 0, 1))
    arm_gap = lungs.half_width + fat + rng.uniform(0.02, 0.12) - 0.2 * np.clip(-y, 0, 1)
    arms = step(u - arm_gap, 0.02) * step(y + 0.85 - 0.5 * (u - 0.6), 0.05)
    tissue = np.maximum(body, rng.uniform(0.3, 0.65) * arms)
    at_x, at_y = rng.uniform(0.38, 0.5), rng.uniform(0.25, 0.45)
    breasts = np.maximum(*(_ellipse(frame, (side * at_x, at_y), (0.3, 0.24)) for side in (-1, 1)))
    tissue = tissue + float(rng.choice([0.0, 0.1, 0.18])) * step(breasts, 0.03)
    return tissue + rng.uniform(0.12, 0.3) * step(lungs.diaphragm, 0.012) * body


def organs(rng: Rng, frame: Frame, lungs: Lungs) -> np.ndarray:
    """Draws heart and mediastinum, less the air of windpipe and stomach: [S, S] float32."""
    shadow = np.sqrt(np.clip(lungs.heart, 0, 0.15) / 0.15) + 0.4 * step(lungs.heart, 0.008)
    # Below the dome of the diaphragm, the liver's shadow covers the heart's.
    heart = rng.uniform(0.15, 0.3) * shadow * step(0.02 - lungs.diaphragm, 0.05)
    windpipe = step(0.045 - np.abs(frame.x - 0.01), 0.02) * step(-0.32 - frame.y, 0.06)
    stomach_at = (rng.uniform(0.3, 0.5), rng.uniform(0.62, 0.85))
    stomach = step(_ellipse(frame, stomach_at, (rng.uniform(0.12, 0.25), 0.1)), 0.025)
    stomach = stomach * step(lungs.diaphragm - 0.03, 0.02)
    return heart - 0.18 * windpipe - float(rng.choice([0, 0, 0.15, 0.3])) * stomach


def _ribs(phase: np.ndarray, share: float) -> np.ndarray:
    """Returns bands with brighter borders (the cortex), one for each unit of `phase`."""
    wave = np.cos(2 * np.pi * phase) - math.cos(math.pi * share)
    return 0.6 * step(wave, 0.15) + 0.6 * np.exp(-((wave / 0.25) ** 2))


def bones(rng: Rng, frame: Frame, lungs: Lungs) -> np.ndarray:
    """Draws ribs (back and front), spine, collar bones and shoulder blades: [S, S] float32."""
    u, y, width = np.abs(frame.x), frame.y, lungs.half_width
    spacing, start = rng.uniform(0.15, 0.19), rng.uniform(0, 1)
    tilt = rng.normal(0, 0.04) * frame.x  # The two sides differ.
    arch = rng.uniform(0.7, 1.0) * u**2 - (0.35 - 0.3 * y) * u
    back = _ribs((y - arch + tilt) / spacing + start, rng.uniform(0.35, 0.45))
    back = back * step(0.62 + 0.5 * u - y, 0.15)
    slope = rng.uniform(0.7, 1.0)
    front = _ribs((y + slope * u - 0.2 * u**2) / (1.25 * spacing), rng.uniform(0.4, 0.5))
    front = front * step(u - 0.45 - 0.1 * y, 0.1)
    narrowing = 0.9 * np.clip(-0.35 - y, 0, 1) ** 1.5
    cage = step(width + 0.05 - narrowing - u, 0.02) * step(y + 0.85, 0.05) * step(0.85 - y, 0.1)
    cage = cage * (1 - 0.75 * step(lungs.diaphragm, 0.05))  # The film is too light there.
    # At the sides the beam passes along a rib, and through more of it.
    ribs = cage * (0.12 * back + 0.08 * front) * (0.8 + 0.7 * np.square(np.square(u / width)))
    vertebrae = 0.8 + 0.2 * np.cos(2 * np.pi * y / rng.uniform(0.15, 0.18))
    spine = 0.15 * step(0.085 + 0.02 * y - u, 0.02) * vertebrae
    return rng.uniform(0.6, 1.3) * (ribs + spine + _girdle(rng, frame, width))


def _girdle(rng: Rng, frame: Frame, width: float) -> np.ndarray:
    """Draws collar bones, inner borders of the shoulder blades and heads of the arms."""
    rise, y = rng.uniform(0.02, 0.22), rng.uniform(-0.68, -0.56)
    t = np.linspace(0, 1, 12)
    strokes = []
    for side in (-1, 1):
        curve = y - rise * t + 0.05 * np.sin(2 * np.pi * t)
        strokes.append((np.stack([side * (0.09 + 0.75 * t), curve], 1), 0.075))
        edge = width - 0.02 + 0.12 * (1 - t) + rng.normal(0, 0.03)
        strokes.append((np.stack([side * edge, -0.7 + 0.75 * t], 1), 0.03))
        head = np.array([[side * (width + 0.2), -0.62], [side * (width + 0.24), -0.45]])
        strokes.append((head, 0.22))
    return 0.12 * frame.draw(strokes, 0.02)


def vessels(rng: Rng, frame: Frame) -> np.ndarray:
    """Draws vessels that fork four times from the two hila: [S, S] float32 in [0, 1]."""
    sides = np.repeat([-1, 1], 9)
    angles = np.tile(np.linspace(-1.4, 1.5, 9), 2) + rng.normal(0, 0.15, 18)
    roots = np.stack([sides * rng.uniform(0.12, 0.2, 18), rng.uniform(-0.18, 0, 18)], 1)
    width, strokes = 0.032, []
    for _ in range(4):
        bends = angles[:, None] + np.cumsum(rng.normal(0, 0.12, (len(angles), 4)), 1)
        moves = 0.055 * np.stack([sides[:, None] * np.cos(bends), np.sin(bends)], 2)
        paths = roots[:, None] + np.pad(np.cumsum(moves, 1), ((0, 0), (1, 0), (0, 0)))
        strokes += [(path, width) for path in paths]
        sides, roots = np.tile(sides, 2), np.tile(paths[:, -1], (2, 1))
        angles = np.concatenate([bends[:, -1] - 0.35, bends[:, -1] + 0.35])
        angles = angles + rng.normal(0, 0.15, len(angles))
        width *= 0.65
    return frame.draw(strokes, 0.011)
