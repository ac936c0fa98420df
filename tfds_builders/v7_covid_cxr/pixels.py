"""Decodes an X-ray, draws its lungs, and stores both as grey PNG of the wanted size."""

import functools

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from tfds_builders import png, raw_tree
from tfds_builders.v7_covid_cxr import annotation, layout


def load(tree: raw_tree.RawTree, sample: layout.Sample, longest_side: int | None) -> dict:
    """Reads one sample.

    Args:
        tree: a download.
        sample: of it.
        longest_side: pixels at most; smaller images stay as they are. None keeps all.

    Returns:
        PNG bytes, mode L, of `image` and `lung_mask` (0 and 255), and `native_height` and
        `native_width` in pixels, the size that the lungs were drawn on.

    Raises:
        ValueError: an image that can't be decoded, or of another shape than its annotation;
            lungs outside of it.
    """
    image = png.decode(tree, sample.image)
    native = sample.annotation.size
    if not _is_rescaled(image.size, native):
        raise ValueError(
            f"{tree.where}: {sample.image}: want the {native[0]} x {native[1]} pixels of "
            f"{sample.annotation.name}, got {image.size[0]} x {image.size[1]}."
        )
    size = _stored_size(image.size, longest_side)
    planes = {
        "image": image.resize(size, Image.Resampling.LANCZOS),
        "lung_mask": _shrink(_native_mask(tree, sample.annotation), size),
    }
    pngs = {name: png.encode(plane) for name, plane in planes.items()}
    return pngs | {"native_width": native[0], "native_height": native[1]}


def draw(lungs: tuple[annotation.Shape, ...], size: tuple[int, int]) -> Image.Image:
    """Fills the shapes, of which a hole is a part left out.

    Args:
        lungs: in pixels; what overlaps is joined.
        size: columns and rows.

    Returns:
        Mode L, 0 and 255.
    """
    canvas = Image.new("L", size)
    for shape in lungs:
        filled = functools.reduce(ImageChops.difference, (_fill(ring, size) for ring in shape))
        canvas = ImageChops.lighter(canvas, filled)
    return canvas


def _fill(ring: np.ndarray, size: tuple[int, int]) -> Image.Image:
    canvas = Image.new("L", size)
    # PIL cuts fractions off, which would shift the outline by half a pixel.
    ImageDraw.Draw(canvas).polygon(np.rint(ring).ravel().tolist(), fill=255)
    return canvas


def _native_mask(tree: raw_tree.RawTree, item: annotation.Annotation) -> Image.Image:
    if item.mask is not None:
        levels = png.decode(tree, item.mask)
        return levels.point([255 * (level == item.lung_level) for level in range(256)])
    mask = draw(item.lungs, item.size)
    if mask.getbbox() is None:
        columns, rows = item.size
        raise ValueError(
            f"{tree.where}: {item.name}: want lungs within {columns} x {rows} pixels, "
            "got outlines outside of them."
        )
    return mask


def _shrink(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Averages over areas, and keeps what is more than half full."""
    if mask.size == size:
        return mask
    # As float, for 8 bits would round one half up.
    share = mask.convert("F").resize(size, Image.Resampling.BOX)
    return Image.fromarray(np.asarray(share) > 127.5).convert("L")


def _is_rescaled(size: tuple[int, int], native: tuple[int, int]) -> bool:
    """Whether `size` is `native` times a number, within a pixel; people store smaller copies."""
    scale = max(size) / max(native)
    return all(abs(got - want * scale) <= 1 for got, want in zip(size, native, strict=True))


def _stored_size(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    if longest_side is None or max(size) <= longest_side:
        return size
    scale = longest_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
