"""Colour pictures of 16 bits a channel, of which Pillow by itself keeps only the high bytes."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

# Pillow's raw modes end with the byte order. With the other order it keeps the low bytes.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BITS = 258  # Number of a TIFF tag.
_FULL = 65535


@dataclasses.dataclass(frozen=True)
class Channels:
    """The bands of an image.

    Attributes:
        colours: [H, W, 1] grey or [H, W, 3] RGB, unsigned integers.
        alpha: [H, W] opacity, of the same type as `colours`, or None.
    """

    colours: np.ndarray
    alpha: np.ndarray | None


def tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """Returns the tags of a TIFF by number; none for other formats."""
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Tells whether an opened image, not loaded yet, has several bands of 16 bits each."""
    if len(image.getbands()) == 1:
        return False
    if image.format == "TIFF":
        return max(tiff_tags(image).get(_BITS, (1,))) == 16
    return any(";16" in _raw_mode(tile[3]) for tile in image.tile)


def load(file: IO[bytes], kind: str) -> Channels:
    """Decodes a picture for which `is_deep` is true, upright.

    Args:
        file: open for reading.
        kind: format of the file, "PNG" or "TIFF".

    Returns:
        Channels of uint16; CMYK becomes RGB.
    """
    raw_mode, transparent = _inspect(file, kind)
    if raw_mode.startswith("LA"):  # Pillow gives no low bytes here, so read 4 bands.
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(_decode(file, kind, "RGBA"), 2, 0)
        return Channels((grey_high << 8 | grey_low)[..., None], alpha_high << 8 | alpha_low)
    straight = raw_mode.replace("RGBa", "RGBA")
    low = _decode(file, kind, straight[:-1] + _OTHER_ORDER[straight[-1]])
    bands = _decode(file, kind, straight) << 8 | low
    if raw_mode.startswith("CMYK"):
        light = _FULL - bands.astype(np.uint32)
        return Channels((light[..., :3] * light[..., 3:] // _FULL).astype(np.uint16), None)
    alpha = (
        bands[..., 3] if raw_mode.startswith("RGBA") else None
    )  # TIFF's "a" is already over black.
    if transparent:  # A PNG may name one transparent colour.
        alpha = np.any(bands != np.array(transparent), axis=2) * np.uint16(_FULL)
    return Channels(bands[..., :3], alpha)


def luminance(channels: Channels) -> np.ndarray:
    """Returns [H, W] float64 luminance by ITU-R 601, transparency over black; grey is unchanged."""
    colours = channels.colours
    if colours.shape[2] == 3:
        red, green, blue = np.moveaxis(colours, 2, 0)  # One by one takes less memory.
        values = (red * 299.0 + green * 587.0 + blue * 114.0) / 1000  # Exact until the division.
    else:
        values = colours[..., 0].astype(float)
    return values if channels.alpha is None else values * channels.alpha / _FULL


def stretch(values: np.ndarray) -> np.ndarray:
    """Stretches values to [H, W] uint8, minimum to 0 and maximum to 255; a constant becomes 0.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("want finite pixels, got NaN or infinity")
    scaled = (values - low) * (255 / ((high - low) or 1))
    return np.rint(scaled).astype(np.uint8)


def _inspect(file: IO[bytes], kind: str) -> tuple[str, tuple[int, ...]]:
    """Returns the raw mode, and the transparent colour or ()."""
    file.seek(0)
    with Image.open(file, formats=[kind]) as image:
        return _raw_mode(image.tile[0][3]), image.info.get("transparency", ())


def _decode(file: IO[bytes], kind: str, raw_mode: str) -> np.ndarray:
    """Decodes [H, W, C] uint16 below 256, upright, with the given raw mode."""
    file.seek(0)
    with Image.open(file, formats=[kind]) as image:
        image.tile = [_with_raw_mode(tile, raw_mode) for tile in image.tile]
        image.load()
        return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)


def _raw_mode(arguments: Any) -> str:
    """Returns the raw mode from a tile's arguments, which are the name alone or a tuple."""
    return arguments if isinstance(arguments, str) else arguments[0]


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    arguments = raw_mode if isinstance(tile[3], str) else (raw_mode, *tile[3][1:])
    # A named tuple since Pillow 11.
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)
