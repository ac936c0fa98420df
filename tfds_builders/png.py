"""Decodes PNG and JPEG files of a download, with errors that name them; encodes grey PNG."""

import io

import numpy as np
from PIL import Image

from jaxlung.image import decoder, mask_levels
from tfds_builders import raw_tree

# A mask's pixels above this share of the strongest one are inside, unless a dataset differs.
HALF = 0.5


def decode(tree: raw_tree.RawTree, name: str) -> Image.Image:
    """Reads an image as 8-bit grey, whatever its mode (bits, palette, RGB).

    Raises:
        ValueError: the file can't be decoded, or has more than 8 bits a channel; names the file.
    """
    decoded, where = _decode(tree, name)
    # PIL would clip these to 255 or drop half of their bits.
    if decoded.deep or decoded.image.mode.startswith(("I", "F")):
        mode = decoded.image.mode
        raise ValueError(f"{where}: want 8 bits a channel, got more (mode {mode}).")
    return decoded.image.convert("L")


def decode_mask(
    tree: raw_tree.RawTree, name: str, size: tuple[int, int], share: float = HALF
) -> Image.Image:
    """Reads a mask of any depth as 255 inside and 0 outside.

    It is grey, or one colour on black or on a transparent background.

    Args:
        tree: the download.
        name: name of the file in the tree.
        size: columns and rows of the mask's image.
        share: share of the mask's greatest value above which a pixel is inside, [0, 1).

    Raises:
        ValueError: the file can't be decoded, is all transparent, or has another size than its
            image; names the file.
    """
    decoded, where = _decode(tree, name)
    try:
        values = mask_levels.strengths(decoder.channels(decoded))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    rows, columns = values.shape
    if (columns, rows) != size:
        raise ValueError(
            f"{where}: want its image's {size[0]} x {size[1]} pixels, got {columns} x {rows}."
        )
    return Image.fromarray((values > share * values.max()) * np.uint8(255))


def _decode(tree: raw_tree.RawTree, name: str) -> tuple[decoder.Decoded, str]:
    """Decodes a file of any format that Pillow knows; returns it and its name for messages."""
    where = f"{tree.where}: {name}"
    with decoder.opened(io.BytesIO(tree.read(name)), where, None) as image:
        return decoder.decode(image), where


def shrink(image: Image.Image, longest_side: int | None) -> Image.Image:
    """Scales an image down, antialiased, and keeps its aspect ratio.

    Args:
        image: mode L.
        longest_side: largest height or width, pixels; smaller images stay as they are. None keeps
            every image.
    """
    size = fitting(image.size, longest_side)
    if size == image.size:
        return image
    # Boxes are averaged first, down to 3 times the size: four times as fast, and looks the same.
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def shrink_mask(mask: Image.Image, longest_side: int | None) -> Image.Image:
    """Scales a mask of 0 and 255 to the size that `shrink` gives its image."""
    return resize_mask(mask, fitting(mask.size, longest_side))


def resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scales a mask of 0 and 255 down; a pixel is 255 where more than half of its area was.

    Args:
        mask: mode L.
        size: columns and rows.
    """
    if size == mask.size:
        return mask
    # As float32, because 8 bits would round 0.499 up to one half and over.
    mean = mask.convert("F").resize(size, Image.Resampling.BOX)
    return Image.fromarray(np.asarray(mean) > 127.5).convert("L")


def fitting(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Returns columns and rows scaled down to `longest_side`, at least 1; None keeps them."""
    scale = 1 if longest_side is None else min(1, longest_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def encode(image: Image.Image) -> bytes:
    """Returns the bytes of a PNG file of the image."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
