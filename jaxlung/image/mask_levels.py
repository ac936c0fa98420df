"""Finds the foreground of a mask, whichever values and colours it was drawn in."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from jaxlung.image import deep_colour

# More than two distinct values, but no more than this, are labels rather than soft edges.
MOST_LEVELS = 16
# A mask whose greatest value is below this has labels: soft edges use the whole range of 8 bits.
_FAINT = 64
_NEAR = 1 / 16  # Width of a JPEG's fringe, as a share of the greatest value.
_FLAT = 1 / 32  # Largest difference of neighbours in a flat area, as a share of the greatest value.
_BINS = 16  # Number of bins in the histogram of flat areas.
_ONE_LEVEL = 1 / 4  # A bin with a larger share of the flat areas is a level, not part of a slope.
_MOST_ODD = 0.01  # Largest flat area of a third level, as a share of the foreground.
_MOST_STRAY = 0.1  # Largest share of the foreground with another colour, at blurred edges.
_SAME_HUE = 0.35  # Largest difference of channels, as a share of the strongest one.
_LISTED = 6  # Number of levels that a message names.


def strengths(channels: deep_colour.Channels) -> np.ndarray:
    """Returns how strongly each pixel of a mask was drawn, in the mask's own unit.

    The strength is the greatest of a pixel's colours, over black where it is transparent. If
    pixels differ only in opacity, such as black on a transparent background, it is the opacity.

    Returns:
        [H, W] unsigned integers.

    Raises:
        ValueError: everything is transparent, but the hidden colours differ.
    """
    colours, alpha = channels.colours, channels.alpha
    values = colours.max(axis=2) if colours.shape[2] > 1 else colours[..., 0]
    if alpha is None or (alpha.min() == alpha.max() and alpha.any()):
        return values
    if not alpha.any():
        if values.min() != values.max():
            raise ValueError("want an opaque mask, got one that is all transparent.")
        return alpha
    # Rounded up, so that a value of 1 stays 1 unless it is fully transparent.
    full = np.iinfo(alpha.dtype).max
    seen = (values.astype(np.uint32) * alpha + (full - 1)) // full
    return seen if seen.any() else alpha


def has_colours(channels: deep_colour.Channels) -> bool:
    """Tells whether any pixel is not grey."""
    colours = channels.colours
    return colours.shape[2] > 1 and bool(np.any(colours != colours[..., :1]))


def foreground(channels: deep_colour.Channels, *, is_lossy: bool) -> np.ndarray:
    """Finds the pixels drawn with at least half strength in a mask in grey or one colour on black.

    Args:
        channels: bands of the mask.
        is_lossy: True if values are approximate, as in a JPEG.

    Returns:
        [H, W] bool; all False for a mask of zeros, all True for one of another single grey.

    Raises:
        ValueError: several colours, no background, or more than two levels. The message does not
            name the file.
    """
    values = strengths(channels)
    _require_one_colour(channels, values, is_lossy=is_lossy)
    return split(values, is_lossy=is_lossy)


def chosen(channels: deep_colour.Channels, levels: Sequence[int]) -> np.ndarray:
    """Returns [H, W] bool: where a mask of exact values, grey or one colour, has a given level.

    Raises:
        ValueError: several colours.
    """
    values = strengths(channels)
    _require_one_colour(channels, values, is_lossy=False)
    return np.isin(values, levels)


def split(values: np.ndarray, *, is_lossy: bool) -> np.ndarray:
    """Returns [H, W] bool: where a mask of two levels, with soft edges or not, has the upper one.

    Args:
        values: [H, W] unsigned integers.
        is_lossy: True if values are approximate, as in a JPEG.

    Raises:
        ValueError: there are more than two levels, or no background.
    """
    levels = np.flatnonzero(np.bincount(values.ravel()))
    greatest = int(levels[-1])
    if len(levels) > 2 and greatest < _FAINT and is_lossy:
        raise ValueError(f"want 0 and 255 in a JPEG mask, got {greatest} at most.")
    if len(levels) > 2 and not is_lossy and _are_labels(levels):
        raise ValueError(_too_many(levels))
    if len(levels) > 1 and levels[0] > greatest / 2:
        if is_lossy and levels[0] >= greatest * (1 - _NEAR):
            return np.ones(values.shape, bool)  # All foreground, with the noise of a JPEG.
        raise ValueError(f"want a background of 0, got the levels {_listed(levels)}.")
    if len(levels) > 2:
        _require_no_third(values, greatest)
    return values > greatest / 2


def _are_labels(levels: np.ndarray) -> bool:
    """Tells whether levels are labels: they are few, or small numbers."""
    greatest = levels[-1]
    low, high = levels[levels <= greatest * _NEAR], levels[levels >= greatest * (1 - _NEAR)]
    if greatest >= _FAINT and min(len(low), len(high)) > 1 and len(low) + len(high) == len(levels):
        return False  # The fringes of a JPEG that was saved as PNG.
    return len(levels) <= MOST_LEVELS or greatest < _FAINT


def _too_many(levels: np.ndarray) -> str:
    return (
        f"want a binary mask, got the levels {_listed(levels)}; name those that are "
        f"foreground, for example --config.data.foreground_levels={levels[-2]},{levels[-1]}"
    )


def _listed(levels: np.ndarray) -> str:
    if len(levels) <= MOST_LEVELS:
        return ",".join(map(str, levels))
    return ",".join(map(str, levels[:_LISTED])) + f",...,{levels[-1]}"


def _require_no_third(values: np.ndarray, greatest: int) -> None:
    """Raises ValueError if whole areas, not only edges, lie between background and foreground."""
    between = (values > greatest / 4) & (values < greatest * 3 / 4)
    most = _MOST_ODD * np.count_nonzero(values > greatest / 4)
    if np.count_nonzero(between) <= most:
        return
    ranges = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    flat = values[between & (ranges <= greatest * _FLAT)]
    counts, edges = np.histogram(flat, _BINS, (0, greatest))
    commonest = int(counts.argmax())
    if counts[commonest] > max(most, _ONE_LEVEL * len(flat)):
        raise ValueError(
            f"want a binary mask, got areas of {edges[commonest]:.0f} to {edges[commonest + 1]:.0f}"
            f" between 0 and {greatest}; want two levels, or a PNG of exact ones and "
            "--config.data.foreground_levels"
        )


def _require_one_colour(
    channels: deep_colour.Channels, values: np.ndarray, *, is_lossy: bool
) -> None:
    """Raises ValueError for a mask in several colours, or in one without background."""
    if not has_colours(channels):
        return
    is_drawn = values > values.max() / 2
    if not is_drawn.any():
        return
    drawn = channels.colours[is_drawn]
    hues = drawn / np.maximum(drawn.max(axis=1, keepdims=True), 1)
    stray = np.count_nonzero(np.any(abs(hues - np.median(hues, axis=0)) > _SAME_HUE, axis=1))
    # Soft edges, and edges that JPEG has blurred, may have another colour.
    is_exact = not is_lossy and np.count_nonzero(np.bincount(values.ravel())) == 2
    if stray > (0 if is_exact else _MOST_STRAY) * len(drawn):
        raise ValueError("want a mask in one colour on black, got several colours.")
    if is_drawn.all():
        raise ValueError("want a mask on black, got one colour all over.")
