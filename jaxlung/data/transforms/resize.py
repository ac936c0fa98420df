"""Resizes images and masks to a network's square input, and its output back."""

import numpy as np
from PIL import Image

from jaxlung.data import record

RESIZES = ("squash", "pad")


def fit(
    image: np.ndarray, mask: np.ndarray, image_size: int, resize: str
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image and its mask to a square.

    Images are resized by antialiased bilinear interpolation. So are masks, each bit as a map of its
    own, which is foreground where it is above 0.5 (Zhang, section 4.2).

    Args:
        image: [H, W] uint8.
        mask: [H, W] uint8, bits of `record`.
        image_size: height and width of the square, S pixels.
        resize: "squash", or "pad" to keep the aspect ratio: the image is centred, and surrounded
            by its minimum and an empty mask.

    Returns:
        Image and mask, [S, S] uint8; the arguments themselves if that is their size.

    Raises:
        ValueError: an unknown `resize`, or shapes that differ.
    """
    if image.shape != mask.shape:
        raise ValueError(f"image {image.shape} and mask {mask.shape} must agree.")
    height, width = image.shape
    rows, columns = _inner_box(height, width, image_size, resize)
    if (height, width) == (image_size, image_size):
        return image, mask
    inner = rows.stop - rows.start, columns.stop - columns.start
    fitted_image = np.full((image_size, image_size), image.min(), np.uint8)
    fitted_image[rows, columns] = _bilinear(image, *inner)
    fitted_mask = np.zeros((image_size, image_size), np.uint8)
    for bit in (record.LUNG, record.INFECTION):
        # As float32, because 8 bits would round 0.499 up to one half and over.
        fraction = _bilinear((mask & bit > 0).astype(np.float32), *inner)
        fitted_mask[rows, columns] |= (fraction > 0.5) * np.uint8(bit)
    return fitted_image, fitted_mask


def unfit(probs: np.ndarray, height: int, width: int, resize: str) -> np.ndarray:
    """Returns a network's output at the size of the image that was given to `fit`.

    Args:
        probs: [S, S] or [S, S, C] float32.
        height: height of the stored image, pixels.
        width: width of the stored image, pixels.
        resize: mode that was given to `fit`; "pad" removes the padding.

    Returns:
        [height, width] or [height, width, C] float32, bilinear.

    Raises:
        ValueError: an unknown `resize`, or `probs` that are not square.
    """
    if probs.ndim not in (2, 3) or probs.shape[0] != probs.shape[1]:
        raise ValueError(f"probs: want [S, S] or [S, S, C], got {probs.shape}.")
    if probs.ndim == 3:
        channels = [unfit(channel, height, width, resize) for channel in np.moveaxis(probs, 2, 0)]
        return np.stack(channels, axis=-1)
    rows, columns = _inner_box(height, width, probs.shape[0], resize)
    return _bilinear(probs[rows, columns].astype(np.float32, copy=False), height, width)


def _inner_box(height: int, width: int, image_size: int, resize: str) -> tuple[slice, slice]:
    """Returns the rows and columns of the square that the image covers."""
    if resize not in RESIZES:
        raise ValueError(f"resize: want one of {', '.join(RESIZES)}, got {resize!r}.")
    if resize == "squash":
        return slice(0, image_size), slice(0, image_size)
    scale = image_size / max(height, width)
    return _centred(height * scale, image_size), _centred(width * scale, image_size)


def _centred(length: float, image_size: int) -> slice:
    # Whole pixels, so that both directions map the same box edge to edge; at least one, for
    # images that are longer than wide by more than image_size times.
    pixels = max(1, round(length))
    start = (image_size - pixels) // 2
    return slice(start, start + pixels)


def _bilinear(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes [H, W] uint8 or float32 to [height, width]; Pillow antialiases when shrinking.

    The width is resized first, then the height, each in a call of its own. In a single call,
    Pillow 13 chooses the order by the shapes, and rounding in between differs by a grey level.
    """
    if array.shape == (height, width):
        return array
    picture = Image.fromarray(array)
    for size in ((width, len(array)), (width, height)):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)
