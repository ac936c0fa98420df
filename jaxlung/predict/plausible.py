"""Checks whether the lungs found on an X-ray look like those of a frontal chest X-ray.

A network finds lungs on any picture. The checks compare what it found with 632 masks of frontal
X-rays, drawn by people (the V7 Labs COVID-19 X-ray dataset; 90 mostly of adults, 542 of children):
the range that all but 0.5 % of them lie in, widened by a quarter of its length at both ends (our
choice). docs/predict.md has the numbers.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from jaxlung.predict import measure, sides, thorax

# Ranges of the module's docstring.
AREA = (0.09, 0.61)  # of the lungs, divided by that of the picture
SMALLER_LUNG = (0.36, 0.5)  # share of the smaller lung in both
HEIGHT = (0.40, 1.55)  # of the lungs' box, divided by its width
OVERLAP = (0.84, 1.0)  # share of the rows of the shorter lung that the other lung has too
FILLED = (0.36, 0.74)  # share of the lungs' box that is lung
FLARE = (0.0, 0.40)  # see `Shape`; below 0 the lungs are wider apart at the top
LEAST_PIXELS = 512  # on the longer side of a picture that is thinned out (our choice)
NUM_PIECES = 2  # of all 632 masks
# Mean entropy of the probabilities within the lungs found. It depends on the network, so this is a
# wide limit (our choice): it is that of a probability of 0.75 everywhere.
MOST_ENTROPY_BITS = 0.81


@dataclasses.dataclass(frozen=True)
class Shape:
    """Measures of the lungs on a picture.

    Attributes:
        area: area of the lungs divided by that of the picture, 0 to 1.
        num_pieces: number of connected pieces with 2 % of the lungs or more.
        smaller_lung: share of the smaller lung in both, 0 to 0.5.
        height: height of the lungs' box divided by its width, both in pixels.
        overlap: number of rows that both lungs lie in, divided by that of the shorter lung.
        filled: share of the lungs' box that is lung, 0 to 1.
        flare: how much farther apart the lungs are at the bottom than at the top: the distance
            between the mean columns of the lowest 30 % of each lung's rows minus that of the
            highest 30 %, divided by the width of the box.
    """

    area: float
    num_pieces: int
    smaller_lung: float
    height: float
    overlap: float
    filled: float
    flare: float


def doubts(lungs: np.ndarray, probs: np.ndarray | None = None) -> list[str]:
    """Returns what is unusual about the lungs found on an X-ray, as short phrases; [] if nothing.

    Of large pictures, every n-th row and column is looked at, so that 512 or more are left on the
    longer side.

    Args:
        lungs: [H, W] bool, upright.
        probs: [H, W] float32, probabilities of the lungs; None if there are none.
    """
    if not lungs.any():
        return ["no lungs found"]
    step = max(1, max(lungs.shape) // LEAST_PIXELS)
    if step > 1 and lungs[::step, ::step].any():
        lungs, probs = lungs[::step, ::step], None if probs is None else probs[::step, ::step]
    shape = shape_of(lungs)
    found = [f"lungs cover {_percent(shape.area)} of the picture"] * _outside(shape.area, AREA)
    if shape.num_pieces > NUM_PIECES:
        found.append(f"lungs in {shape.num_pieces} pieces")
    if not shape.smaller_lung:
        found.append("one lung only")
    else:
        found += _doubts_of_two(shape)
    if _outside(shape.height, HEIGHT):
        found.append(f"lungs are {shape.height:.1f} times as high as wide")
    if _outside(shape.filled, FILLED):
        found.append(f"lungs fill {_percent(shape.filled)} of their box")
    entropy_bits = 0.0 if probs is None else measure.mean_entropy_bits(probs[lungs])
    if entropy_bits > MOST_ENTROPY_BITS:
        found.append(f"the network is undecided ({entropy_bits:.2f} bits within the lungs)")
    return found


def _doubts_of_two(shape: Shape) -> list[str]:
    found = []
    if _outside(shape.smaller_lung, SMALLER_LUNG):
        found.append(f"one lung is {_percent(shape.smaller_lung)} of both")
    if _outside(shape.overlap, OVERLAP):
        found.append("lungs at different heights")
    if shape.flare < FLARE[0]:
        found.append("lungs look upside down")
    elif shape.flare > FLARE[1]:
        found.append("lungs lie far apart at the bottom")
    return found


def shape_of(lungs: np.ndarray) -> Shape:
    """Returns the measures of lungs [H, W] bool with at least one pixel."""
    labels, _ = ndimage.label(lungs)
    sizes = np.bincount(labels[lungs])
    (box,) = ndimage.find_objects(lungs.view(np.uint8))
    height, width = lungs[box].shape
    both = sides.part(lungs)
    areas = [np.count_nonzero(lung) for lung in both]
    spans = [np.flatnonzero(lung.any(axis=1)) for lung in both]
    is_two = min(areas) > 0
    return Shape(
        area=sum(areas) / lungs.size,
        num_pieces=int(np.count_nonzero(sizes >= thorax.LEAST_PIECE * sum(areas))),
        smaller_lung=min(areas) / sum(areas),
        height=height / width,
        overlap=_overlap(*spans) if is_two else math.nan,
        filled=sum(areas) / (height * width),
        flare=(_apart(both, -1) - _apart(both, 1)) / width if is_two else math.nan,
    )


def _overlap(low: np.ndarray, high: np.ndarray) -> float:
    """Returns the share of the shorter span of rows that lies within the other one."""
    common = min(low[-1], high[-1]) - max(low[0], high[0]) + 1
    return max(0, common) / min(np.ptp(low) + 1, np.ptp(high) + 1)


def _apart(both: tuple[np.ndarray, np.ndarray], step: int) -> float:
    """Returns the distance between the mean columns of the lungs' first 30 % of rows.

    Args:
        both: the lung at the lower columns and that at the higher ones.
        step: 1 to begin at the top, -1 at the bottom.
    """
    low, high = (_mean_column(lung[::step]) for lung in both)
    return high - low


def _mean_column(lung: np.ndarray) -> float:
    rows = np.flatnonzero(lung.any(axis=1))
    end = rows[0] + math.ceil(0.3 * (rows[-1] - rows[0] + 1))
    columns = lung[rows[0] : end].sum(axis=0)
    return float(np.arange(len(columns)) @ columns / columns.sum())


def _outside(value: float, limits: tuple[float, float]) -> bool:
    return not limits[0] <= value <= limits[1]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
