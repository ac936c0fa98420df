"""Which pixels of a mask are foreground, whatever the values and colours that it was drawn in."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from jaxlung.image import deep_colour

# Fewer distinct values than this, and more than two, look like labels rather than soft edges.
MOST_LEVELS = 16
# Values up to here don't spread over the range as soft edges do; 0 to 255 is 8 bits.
_FAINT = 64
_NEAR = 1 / 16  # of the greatest value: how far JPEG's fringes reach
_FLAT = 1 / 32  # of the greatest value: what differs less among neighbours is flat
_BINS = 16  # of a histogram of flat areas
_ONE_LEVEL = 1 / 4  # of the flat areas: more of them in one bin are of one level, not a slope
_MOST_ODD = 0.01  # of the foreground: flat areas of a third level, which soft edges have none of
_MOST_STRAY = 0.1  # of the foreground: pixels of another colour, at blurred edges
_SAME_HUE = 0.35  # how far channels may differ, of the strongest one
_LISTED = 6  # levels that a message names


def strengths(channels: deep_colour.Channels) -> np.ndarray:
    """How strongly a mask was drawn, pixel by pixel, in its own unit.

    It is the greatest of a pixel's colours, over black where it is transparent. If nothing but
    transparency tells the pixels apart, as black on nothing, it is the opacity.

    Returns:
        [H, W] unsigned integers.

    Raises:
        ValueError: everything is transparent, and colours differ below.
    """
    colours, alpha = channels.colours, channels.alpha
    values = colours.max(axis=2) if colours.shape[2] > 1 else colours[..., 0]
    if alpha is None or (alpha.min() == alpha.max() and alpha.any()):
        return values
    if not alpha.any():
        if values.min() != values.max():
            raise ValueError("want an opaque mask, got one that is all transparent.")
        return alpha
    # Rounded up, so that 1 over nothing stays 1.
    full = np.iinfo(alpha.dtype).max
    seen = (values.astype(np.uint32) * alpha + (full - 1)) // full
    return seen if seen.any() else alpha


def has_colours(channels: deep_colour.Channels) -> bool:
    """Whether any pixel is other than grey."""
    colours = channels.colours
    return colours.shape[2] > 1 and bool(np.any(colours != colours[..., :1]))


def foreground(channels: deep_colour.Channels, *, is_lossy: bool) -> np.ndarray:
    """Foreground of a mask in grey, or in one colour on black: what is drawn at least half.

    Args:
        channels: of the mask.
        is_lossy: values are approximate.

    Returns:
        [H, W] bool; nothing of a mask of zeros, all of one of another grey.

    Raises:
        ValueError: several colours, no background, or more than two levels; without the file.
    """
    values = strengths(channels)
    _require_one_colour(channels, values, is_lossy=is_lossy)
    return split(values, is_lossy=is_lossy)


def chosen(channels: deep_colour.Channels, levels: Sequence[int]) -> np.ndarray:
    """[H, W] bool: where a mask of exact values in grey or one colour has one of the levels.

    Raises:
        ValueError: several colours.
    """
    values = strengths(channels)
    _require_one_colour(channels, values, is_lossy=False)
    return np.isin(values, levels)


def split(values: np.ndarray, *, is_lossy: bool) -> np.ndarray:
    """The upper of the two levels of a mask, or of what soft edges and JPEG's fringes made of them.

    Args:
        values: [H, W] unsigned integers.
        is_lossy: values are approximate.

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
            return np.ones(values.shape, bool)  # full, but for the noise of a JPEG
        raise ValueError(f"want a background of 0, got the levels {_listed(levels)}.")
    if len(levels) > 2:
        _require_no_third(values, greatest)
    return values > greatest / 2


def _are_labels(levels: np.ndarray) -> bool:
    """Whether more than two levels were meant: they are few, or small numbers in a row."""
    greatest = levels[-1]
    low, high = levels[levels <= greatest * _NEAR], levels[levels >= greatest * (1 - _NEAR)]
    if greatest >= _FAINT and min(len(low), len(high)) > 1 and len(low) + len(high) == len(levels):
        return False  # Fringes of a JPEG, saved without loss since.
    return len(levels) <= MOST_LEVELS or greatest < _FAINT


def _too_many(levels: np.ndarray) -> str:
    return (
        f"want a binary mask, got the levels {_listed(levels)}; name those that are "
        f"foreground, for example --config.data.foreground_levels={levels[-2]},{levels[-1]}"
    )


def _listed(levels: Sequence[int]) -> str:
    if len(levels) <= MOST_LEVELS:
        return ",".join(map(str, levels))
    return ",".join(map(str, levels[:_LISTED])) + f",...,{levels[-1]}"


def _require_no_third(values: np.ndarray, greatest: int) -> None:
    """Raises ValueError if areas, and not edges only, lie between background and foreground."""
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
    """Raises ValueError for what is drawn in several colours, or in one without background."""
    if not has_colours(channels):
        return
    is_drawn = values > values.max() / 2
    if not is_drawn.any():
        return
    drawn = channels.colours[is_drawn]
    hues = drawn / np.maximum(drawn.max(axis=1, keepdims=True), 1)
    stray = np.count_nonzero(np.any(abs(hues - np.median(hues, axis=0)) > _SAME_HUE, axis=1))
    # Edges that JPEG has blurred, or that are soft, may have another colour.
    is_exact = not is_lossy and np.count_nonzero(np.bincount(values.ravel())) == 2
    if stray > (0 if is_exact else _MOST_STRAY) * len(drawn):
        raise ValueError("want a mask in one colour on black, got several colours.")
    if is_drawn.all():
        raise ValueError("want a mask on black, got one colour all over.")
