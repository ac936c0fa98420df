"""Measures the thorax on an X-ray, as far as its lungs show it."""

import math

import numpy as np
from scipy import ndimage

# Share of the lungs below which a connected piece is a crumb, not a part of a lung (our choice).
LEAST_PIECE = 0.02


def width(lungs: np.ndarray) -> float:
    """Returns the thoracic width in pixels: that of the box around the lungs; NaN without lungs.

    This is the largest horizontal distance between the outer borders of both lungs, the transverse
    thoracic diameter of the cardiothoracic ratio (Danzer, 1919). Crumbs, connected pieces of less
    than 2 % of the lungs, don't count.

    Args:
        lungs: [H, W] bool, upright.
    """
    labels, _ = ndimage.label(lungs)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    pieces = sizes > LEAST_PIECE * sizes.sum()
    columns = np.flatnonzero(pieces[labels].any(axis=0))
    return float(columns[-1] - columns[0] + 1) if columns.size else math.nan
