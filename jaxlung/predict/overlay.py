"""Draws masks over an image as a tint and an outline in colour."""

from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxlung.evaluation import panels
from jaxlung.volume import hounsfield

# Okabe and Ito's sky blue and vermilion, which colour-blind people can tell apart.
COLOURS = {"lung": (86, 180, 233), "infection": (213, 94, 0)}
TINT = 0.25  # share of the colour inside an outline
MOST_PIXELS = 2048  # along the longer side; larger pictures are shrunk
GAP_PIXELS = 8  # between the planes of a volume


def draw(image: np.ndarray, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns a picture with masks over it, later ones on top.

    Args:
        image: [H, W] uint8.
        masks: [H, W] bool by name, a key of `COLOURS`.

    Returns:
        [h, w, 3] uint8. Pictures longer than 2048 pixels are shrunk to that length.
    """
    scale = min(1.0, MOST_PIXELS / max(image.shape))
    height, width = (max(1, round(length * scale)) for length in image.shape)
    shown = np.repeat(_resized(image, height, width)[..., None].astype(np.float32), 3, axis=2)
    thickness = max(1, round(max(height, width) / 400))
    for name, mask in masks.items():
        colour = np.array(COLOURS[name], np.float32)
        inside = _resized(mask.astype(np.uint8), height, width) > 0
        shown[inside] += TINT * (colour - shown[inside])
        shown[inside & ~ndimage.binary_erosion(inside, iterations=thickness)] = colour
    return np.rint(shown).astype(np.uint8)


def draw_volume(
    image: np.ndarray, masks: Mapping[str, np.ndarray], spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Draws an axial, a coronal and a sagittal slice side by side, each where the mask is largest.

    The patient's head is at the top and the patient's right on the left. In the sagittal slice the
    front is on the left.

    Args:
        image: [D, H, W] int16 HU.
        masks: [D, H, W] bool by name, a key of `COLOURS`. The last one that isn't empty chooses
            the slices; if all are empty, the middle ones are drawn.
        spacing_mm: distances between voxels along D, H, W.

    Returns:
        [h, w, 3] uint8 of square pixels. Their size is the least spacing, or larger so that no
        slice is longer than 2048 pixels.
    """
    lengths_mm = [n * mm for n, mm in zip(image.shape, spacing_mm, strict=True)]
    pixel_mm = max(min(spacing_mm), max(lengths_mm) / MOST_PIXELS)
    sought = next((mask for mask in reversed(list(masks.values())) if mask.any()), None)
    drawn = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        middle = image.shape[axis] // 2
        index = middle if sought is None else int(sought.sum(axis=others).argmax())
        grey = hounsfield.scale(_plane(image, axis, index), panels.SHOWN_HU)
        rows, columns = (max(1, round(lengths_mm[other] / pixel_mm)) for other in others)
        shown = _resized(np.rint(255 * grey).astype(np.uint8), rows, columns)
        layers = {
            name: _resized(_plane(mask, axis, index).astype(np.uint8), rows, columns) > 0
            for name, mask in masks.items()
        }
        drawn.append(draw(shown, layers))
    return _beside(drawn)


def _plane(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    plane = array.take(index, axis=axis)
    return plane if axis == 0 else plane[::-1]  # Flipped, because slices go upwards.


def _beside(pictures: list[np.ndarray]) -> np.ndarray:
    """Puts pictures in a row on black, aligned at the top."""
    height = max(len(picture) for picture in pictures)
    padded = [
        np.pad(picture, ((0, height - len(picture)), (0, GAP_PIXELS), (0, 0)))
        for picture in pictures
    ]
    return np.concatenate(padded, axis=1)[:, :-GAP_PIXELS]


def _resized(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes [H, W] uint8 to [height, width]; masks of 0 and 1 keep these values."""
    if array.shape == (height, width):
        return array
    how = Image.Resampling.NEAREST if array.max() <= 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(array).resize((width, height), how))
