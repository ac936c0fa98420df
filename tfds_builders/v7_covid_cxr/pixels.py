"""Decodes an X-ray, draws its lungs, and stores both as grey PNG of the wanted size."""

import functools

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from tfds_builders import png, raw_tree
from tfds_builders.v7_covid_cxr import annotation, layout


def load(tree: raw_tree.RawTree, sample: layout.Sample, longest_side: int | None) -> dict:
    """Reads one sample.

    Args:
        tree: the download.
        sample: sample to read.
        longest_side: largest height or width to store, pixels; smaller images stay as they are.
            None keeps the size of all.

    Returns:
        Bytes of PNG files, mode L, `image` and `lung_mask` (0 and 255), and the size that the lungs
        were drawn on, `native_height` and `native_width` in pixels.

    Raises:
        ValueError: an image that can't be decoded or has other proportions than its annotation, or
            lungs outside the image.
    """
    image = png.decode(tree, sample.image)
    native = sample.annotation.size
    if not _is_rescaled(image.size, native):
        raise ValueError(
            f"{tree.where}: {sample.image}: want the {native[0]} x {native[1]} pixels of "
            f"{sample.annotation.name}, got {image.size[0]} x {image.size[1]}."
        )
    size = png.fitting(image.size, longest_side)
    planes = {
        "image": image.resize(size, Image.Resampling.LANCZOS),
        "lung_mask": png.resize_mask(_native_mask(tree, sample.annotation), size),
    }
    pngs = {name: png.encode(plane) for name, plane in planes.items()}
    return pngs | {"native_width": native[0], "native_height": native[1]}


def draw(lungs: tuple[annotation.Shape, ...], size: tuple[int, int]) -> Image.Image:
    """Fills shapes, leaving out their holes; overlapping shapes are joined.

    Args:
        lungs: shapes in pixels.
        size: columns and rows of the result.

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
    # PIL truncates fractions, which would shift the outline by half a pixel.
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


def _is_rescaled(size: tuple[int, int], native: tuple[int, int]) -> bool:
    """Tells whether `size` is a scaled `native`, within a pixel: people store smaller copies."""
    scale = max(size) / max(native)
    return all(abs(got - want * scale) <= 1 for got, want in zip(size, native, strict=True))
