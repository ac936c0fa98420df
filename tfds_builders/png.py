"""PNG and JPEG files of a download, decoded with their errors told, and stored as grey PNG."""

import io

import numpy as np
from PIL import Image

from jaxlung import damage
from tfds_builders import raw_tree

# PIL would clip these to 255, not scale them.
_DEEP_MODES = ("I", "I;16", "I;16B", "F")
# What Pillow raises on damaged files, and on those that would fill the memory.
_DAMAGE = (*damage.ERRORS, SyntaxError, Image.DecompressionBombError)


def decode(tree: raw_tree.RawTree, name: str) -> Image.Image:
    """Reads an image as 8-bit grey, whatever its mode (bits, palette, RGB).

    Raises:
        ValueError: the file can't be decoded, or has more than 8 bits a channel; names it.
    """
    content = tree.read(name)
    try:
        image = Image.open(io.BytesIO(content))
        image.load()  # Opening reads the header only; a file cut short fails here.
    except _DAMAGE as error:
        reason = str(error).split(" <")[0]  # PIL names the buffer, not the file.
        raise ValueError(f"{tree.where}: {name} can't be decoded ({reason}).") from error
    if image.mode in _DEEP_MODES:
        raise ValueError(f"{tree.where}: {name}: want 8 bits a channel, got mode {image.mode}.")
    return image.convert("L")


def decode_mask(
    tree: raw_tree.RawTree, name: str, size: tuple[int, int], threshold: int
) -> Image.Image:
    """Reads a mask: 255 where it is above `threshold`, 0 elsewhere.

    Args:
        tree: a download.
        name: of the file in it.
        size: columns and rows of the mask's image.
        threshold: grey level, 0 to 254.

    Raises:
        ValueError: as `decode`, or the mask has another size than its image.
    """
    mask = decode(tree, name)
    if mask.size != size:
        raise ValueError(
            f"{tree.where}: {name}: want its image's {size[0]} x {size[1]} pixels, "
            f"got {mask.size[0]} x {mask.size[1]}."
        )
    return mask.point([255 * (level > threshold) for level in range(256)])


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
