"""PNG and JPEG files of a download, decoded with their errors told, and stored as grey PNG."""

import io

import numpy as np
from PIL import Image

from jaxlung.image import decoder, mask_levels
from tfds_builders import raw_tree

# Mask pixels above this share of the strongest one are inside, unless a dataset says otherwise.
HALF = 0.5


def decode(tree: raw_tree.RawTree, name: str) -> Image.Image:
    """Reads an image as 8-bit grey, whatever its mode (bits, palette, RGB).

    Raises:
        ValueError: the file can't be decoded, or has more than 8 bits a channel; names it.
    """
    decoded, where = _decode(tree, name)
    # PIL would clip these to 255, not scale them, or drop half of their bits.
    if decoded.deep or decoded.image.mode.startswith(("I", "F")):
        mode = decoded.image.mode
        raise ValueError(f"{where}: want 8 bits a channel, got more (mode {mode}).")
    return decoded.image.convert("L")


def decode_mask(
    tree: raw_tree.RawTree, name: str, size: tuple[int, int], share: float = HALF
) -> Image.Image:
    """Reads a mask of any depth, in grey or one colour on black or on nothing: 255 inside, else 0.

    Args:
        tree: a download.
        name: of the file in it.
        size: columns and rows of the mask's image.
        share: of the mask's greatest value, above which a pixel is inside, [0, 1).

    Raises:
        ValueError: the file can't be decoded, is all transparent, or has another size than its
            image; names it.
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
    """A file of any format that Pillow knows, and what messages call it."""
    where = f"{tree.where}: {name}"
    with decoder.opened(io.BytesIO(tree.read(name)), where, None) as image:
        return decoder.decode(image), where


def shrink(image: Image.Image, longest_side: int | None) -> Image.Image:
    """Scales an image down, antialiased, its aspect ratio kept.

    Args:
        image: mode L.
        longest_side: pixels; an image that is no longer, or any where it is None, stays as it is.
    """
    size = _fitting(image.size, longest_side)
    if size == image.size:
        return image
    # Averages whole boxes first, down to 3 times the size: four times as fast, and looks the same.
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def shrink_mask(mask: Image.Image, longest_side: int | None) -> Image.Image:
    """Scales a mask of 0 and 255 as `shrink` does its image.

    A pixel is 255 where more than half of its area was.
    """
    size = _fitting(mask.size, longest_side)
    if size == mask.size:
        return mask
    # As float32, because 8 bits would round 0.499 up to one half and over.
    mean = mask.convert("F").resize(size, Image.Resampling.BOX)
    return Image.fromarray(np.asarray(mean) > 127.5).convert("L")


def _fitting(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Columns and rows, neither more than `longest_side` nor less than 1."""
    scale = 1 if longest_side is None else min(1, longest_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def encode(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
