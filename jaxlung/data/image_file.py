"""PNG and JPEG files as arrays: any PIL mode in, upright, one value per pixel out."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxlung import damage

SUFFIXES = (".png", ".jpg", ".jpeg")

# What Pillow raises on damaged files.
DECODE_ERRORS = (*damage.ERRORS, SyntaxError, Image.DecompressionBombError)
# EXIF orientations that exchange rows and columns.
_TRANSPOSING = (5, 6, 7, 8)
# Fewer distinct values than this, and more than two, look like labels rather than soft edges.
_MOST_LEVELS = 16


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded.

    Attributes:
        height: rows in pixels, upright.
        width: columns in pixels, upright.
        is_lossy: True for JPEG, whose pixel values are approximate.
    """

    height: int
    width: int
    is_lossy: bool


def read_header(path: os.PathLike[str]) -> Header:
    """Size and kind of a PNG or JPEG, read without decoding it.

    Raises:
        ValueError: the file is neither, or its header is damaged.
    """
    with _opened(path) as image:
        width, height = image.size
        # Asking a PNG for EXIF data that did not come first would decode all of it.
        has_exif = image.format != "PNG" or "exif" in image.info
        orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
        if orientation in _TRANSPOSING:
            width, height = height, width
        return Header(height, width, image.format != "PNG")


def read_image(path: os.PathLike[str]) -> np.ndarray:
    """A file as a grey image, upright as its EXIF orientation says.

    Colour becomes luminance (ITU-R 601), transparency shows black, and 16-bit grey is
    stretched from its own minimum and maximum to [0, 255].

    Returns:
        [H, W] uint8.

    Raises:
        ValueError: the file can't be decoded.
    """
    return grey(_load(path))


def grey(image: Image.Image) -> np.ndarray:
    """[H, W] uint8 of a decoded image in any mode, by the rules of `read_image`.

    Raises:
        ValueError: a pixel is NaN or infinite.
    """
    if image.mode.startswith(("I", "F")):
        return _stretch(np.asarray(image))
    return np.asarray(_opaque(image).convert("L"))


def read_mask(path: os.PathLike[str], foreground_levels: Sequence[int]) -> np.ndarray:
    """A file as a binary mask, upright as its EXIF orientation says.

    Without levels, foreground is what is above half: of 255 in a JPEG, of the mask's own
    maximum in a PNG, so that 0/1, 0/255 and 1-bit files all work and an all-zero mask is
    empty. With levels, foreground is where the stored value is one of them. A palette of
    colours counts as labels: the values are its indices. A palette of greys counts as grey.

    Args:
        path: a PNG or JPEG.
        foreground_levels: stored values that mean foreground, or empty for a binary mask.

    Returns:
        [H, W] bool.

    Raises:
        ValueError: the file can't be decoded; a PNG in colours; a PNG with 3 to 16 values and
            no levels to read them by; a JPEG with levels, which compression has blurred.
    """
    image = _load(path)
    values = _mask_values(image, path)
    if image.format == "PNG":
        return _png_foreground(values, foreground_levels, path)
    refuse_lossy_levels(path, foreground_levels)
    return values > 127


def refuse_lossy_levels(path: os.PathLike[str], foreground_levels: Sequence[int]) -> None:
    """Raises a ValueError if levels are asked of the JPEG at `path`."""
    if foreground_levels:
        raise ValueError(
            f"{path}: foreground_levels {tuple(foreground_levels)} need a PNG mask, got JPEG, "
            "which does not keep exact values."
        )


def _png_foreground(
    values: np.ndarray, foreground_levels: Sequence[int], path: os.PathLike[str]
) -> np.ndarray:
    if foreground_levels:
        return np.isin(values, foreground_levels)
    levels = np.flatnonzero(np.bincount(values.ravel()))
    if 2 < levels.size <= _MOST_LEVELS:
        listed = ",".join(map(str, levels))
        raise ValueError(
            f"{path}: want a binary mask, got the levels {listed}; name those that are "
            f"foreground, for example --config.data.foreground_levels={levels[-2]},{levels[-1]}"
        )
    return values > levels[-1] / 2


def _mask_values(image: Image.Image, path: os.PathLike[str]) -> np.ndarray:
    """[H, W] integers: grey values, or the indices of a colour palette."""
    if image.mode.startswith("I"):
        return np.asarray(image)
    opaque = _opaque(image)
    if opaque.mode == "L" or image.format != "PNG":
        return np.asarray(opaque.convert("L"))
    colours = np.asarray(opaque)
    if np.all(colours == colours[..., :1]):
        return colours[..., 0]
    if image.mode == "P":
        return np.asarray(image)
    raise ValueError(f"{path}: want a grey or palette mask, got {image.mode} with colours.")


@contextlib.contextmanager
def _opened(path: os.PathLike[str]) -> Iterator[Image.Image]:
    """The file as a lazy PIL image; whatever fails inside becomes one sentence."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            yield image
    except FileNotFoundError:
        raise
    except DECODE_ERRORS as error:
        raise ValueError(f"{path}: can't be decoded as PNG or JPEG ({error}).") from error


def _load(path: os.PathLike[str]) -> Image.Image:
    with _opened(path) as image:
        image.load()
        # In place, because a copy would forget the format.
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _opaque(image: Image.Image) -> Image.Image:
    """The image as "L" or "RGB", transparency over black."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Minimum to 0, maximum to 255; a constant image is 0."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("want finite pixels, got NaN or infinity")
    scaled = (values - low) * (255 / ((high - low) or 1))
    return np.rint(scaled).astype(np.uint8)
