"""PNG and JPEG files of a download, decoded with their errors told, and stored as grey PNG."""

import io
import struct
import zlib

from PIL import Image

from tfds_builders import raw_tree

# PIL would clip these to 255, not scale them.
_DEEP_MODES = ("I", "I;16", "I;16B", "F")


def decode(tree: raw_tree.RawTree, name: str) -> Image.Image:
    """Reads an image as 8-bit grey, whatever its mode (bits, palette, RGB).

    Raises:
        ValueError: the file can't be decoded, or has more than 8 bits a channel; names it.
    """
    try:
        image = Image.open(io.BytesIO(tree.read(name)))
        image.load()  # Opening reads the header only; a file cut short fails here.
    except (OSError, SyntaxError, struct.error, zlib.error) as error:
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


def encode(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
