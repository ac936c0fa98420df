"""Reads PNG and JPEG files of any PIL mode as upright arrays with one value per pixel."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import ExifTags, ImageFile

from jaxlung.image import decoder, deep_colour, mask_levels

SUFFIXES = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")


@dataclasses.dataclass(frozen=True)
class Header:
    """The facts in a file's header, known before its pixels are decoded.

    Attributes:
        height: rows in pixels, upright.
        width: columns in pixels, upright.
        is_lossy: True for JPEG, whose pixel values are approximate.
    """

    height: int
    width: int
    is_lossy: bool


def read_header(path: os.PathLike[str]) -> Header:
    """Reads the size and kind of a PNG or JPEG without decoding its pixels.

    Raises:
        ValueError: the file is neither, or its header is damaged.
    """
    with _opened(path) as image:
        width, height = image.size
        # Asking a PNG for EXIF data that come after the pixels would decode the whole file.
        has_exif = image.format != "PNG" or "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
        if orientation in decoder.TRANSPOSING:
            width, height = height, width
        return Header(height, width, image.format != "PNG")


def read_image(path: os.PathLike[str]) -> np.ndarray:
    """Reads a file as a grey image, upright by its EXIF orientation; see `decoder.grey`.

    Returns:
        [H, W] uint8.

    Raises:
        ValueError: the file can't be decoded.
    """
    with _opened(path) as image:
        return decoder.grey(decoder.decode(image))


def read_mask(path: os.PathLike[str], foreground_levels: Sequence[int]) -> np.ndarray:
    """Reads a file as a binary mask, upright by its EXIF orientation.

    Without levels, a mask is grey, or one colour on black or on a transparent background.
    Foreground is every pixel at least half as strong as the strongest one. So 0/1, 0/255, 16 bits,
    red, and black on transparent are all read in the same way, and an all-zero mask is empty
    (`mask_levels.foreground`). With levels, foreground is where the stored value is one of them. A
    palette of several colours counts as labels, whose values are its indices. A palette of greys
    counts as grey.

    Args:
        path: a PNG or JPEG.
        foreground_levels: stored values that mean foreground, or () for a binary mask.

    Returns:
        [H, W] bool.

    Raises:
        ValueError: the file can't be decoded; it has several colours or more than two levels and
            no levels are given; or levels are given for colours, or for a JPEG, which blurs them.
    """
    with _opened(path) as image:
        decoded = decoder.decode(image)
    if decoded.is_lossy:
        refuse_lossy_levels(path, foreground_levels)
    try:
        return _foreground(decoded, foreground_levels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def refuse_lossy_levels(path: os.PathLike[str], foreground_levels: Sequence[int]) -> None:
    """Raises a ValueError if foreground levels are given for the JPEG at `path`."""
    if foreground_levels:
        raise ValueError(
            f"{path}: foreground_levels {tuple(foreground_levels)} need a PNG mask, got JPEG, "
            "which does not keep exact values."
        )


def _foreground(decoded: decoder.Decoded, foreground_levels: Sequence[int]) -> np.ndarray:
    channels = decoder.channels(decoded)
    if decoded.image.mode == "P":
        indices = np.asarray(decoded.image)
        if mask_levels.has_colours(channels):
            return _palette_foreground(channels, indices, foreground_levels)
        _require_told_apart(channels, indices)
    if foreground_levels:
        return mask_levels.chosen(channels, foreground_levels)
    return mask_levels.foreground(channels, is_lossy=decoded.is_lossy)


def _palette_foreground(
    channels: deep_colour.Channels, indices: np.ndarray, foreground_levels: Sequence[int]
) -> np.ndarray:
    if foreground_levels:
        return np.isin(indices, foreground_levels)
    used, firsts = np.unique(indices, return_index=True)
    black = np.all(channels.colours.reshape(-1, 3)[firsts] == 0, axis=1)
    if len(used) == 2 and black.sum() == 1:  # Black is the background, at either index.
        return indices != used[black]
    if len(used) > mask_levels.MOST_LEVELS:  # A drawing in many colours, stored in a palette.
        return mask_levels.foreground(channels, is_lossy=False)
    return mask_levels.split(indices, is_lossy=False)


def _require_told_apart(channels: deep_colour.Channels, indices: np.ndarray) -> None:
    """Raises ValueError if a palette has several indices in use, and all of them are black."""
    used = np.unique(indices)
    if len(used) > 1 and not mask_levels.strengths(channels).any():
        raise ValueError(
            f"want a background and a foreground, got a palette in which all of the indices "
            f"{','.join(map(str, used[:6]))}{',...' * (len(used) > 6)} are black."
        )


@contextlib.contextmanager
def _opened(path: os.PathLike[str]) -> Iterator[ImageFile.ImageFile]:
    """Opens a file as a PIL image that is not loaded; errors become one ValueError."""
    path = pathlib.Path(path)
    with decoder.open_file(path) as file, decoder.opened(file, str(path), _FORMATS) as image:
        yield image
