"""Decodes and checks the files of one sample, and stores them as plain 8-bit grey PNG."""

import io
import struct
import zlib

from PIL import Image

from tfds_builders import raw_tree
from tfds_builders.covid_qu_ex import layout

MASK_THRESHOLD = 127  # Grey levels above it are inside.

# PIL would clip these to 255, not scale them.
_DEEP_MODES = ("I", "I;16", "I;16B", "F")


def load(tree: raw_tree.RawTree, sample: layout.Sample) -> dict[str, bytes]:
    """Reads one sample.

    Returns:
        PNG bytes, mode L, of `image`, `lung_mask` and `infection_mask`; masks hold 0 and 255. An
        absent infection mask is all 0.

    Raises:
        ValueError: a file that can't be decoded, has more than 8 bits a channel, or a mask of
            another size than its image.
    """
    image = _decode(tree, sample.image)
    lungs = _decode_mask(tree, sample.lung_mask, image.size)
    infection = Image.new("L", image.size)
    if sample.infection_mask is not None:
        infection = _decode_mask(tree, sample.infection_mask, image.size)
    planes = {"image": image, "lung_mask": lungs, "infection_mask": infection}
    return {name: _encode(plane) for name, plane in planes.items()}


def _decode(tree: raw_tree.RawTree, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(tree.read(name)))
        image.load()  # Opening reads the header only; a file cut short fails here.
    except (OSError, SyntaxError, struct.error, zlib.error) as error:
        reason = str(error).split(" <")[0]  # PIL names the buffer, not the file.
        raise ValueError(f"{tree.where}: {name} can't be decoded ({reason}).") from error
    if image.mode in _DEEP_MODES:
        raise ValueError(f"{tree.where}: {name}: want 8 bits a channel, got mode {image.mode}.")
    return image.convert("L")


def _decode_mask(tree: raw_tree.RawTree, name: str, size: tuple[int, int]) -> Image.Image:
    mask = _decode(tree, name)
    if mask.size != size:
        raise ValueError(
            f"{tree.where}: {name}: want its image's {size[0]} x {size[1]} pixels, "
            f"got {mask.size[0]} x {mask.size[1]}."
        )
    return mask.point([255 * (level > MASK_THRESHOLD) for level in range(256)])


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
