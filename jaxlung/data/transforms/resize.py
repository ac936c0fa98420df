"""Images and masks to a network's square input, and a network's output back."""

import numpy as np
from PIL import Image

from jaxlung.data import record

RESIZES = ("squash", "pad")


def fit(
    image: np.ndarray, mask: np.ndarray, image_size: int, resize: str
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image and its mask to a square.

    Images by antialiased bilinear interpolation. So are the masks, each bit as a map of its own,
    then foreground where the map is above 0.5 (Zhang, section 4.2).

    Args:
        image: [H, W] uint8.
        mask: [H, W] uint8, bits of `record`.
        image_size: S, pixels.
        resize: "squash", or "pad" to keep the aspect ratio: centred, and surrounded by the
            image's minimum and an empty mask.

    Returns:
        Image and mask, [S, S] uint8; the arguments themselves if that is their size.

    Raises:
        ValueError: another `resize`, or shapes that differ.
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
    """Brings a network's output back to the size of the image that `fit` was given.

    Args:
        probs: [S, S] or [S, S, C] float32.
        height: of the image as stored, pixels.
        width: of the image as stored, pixels.
        resize: as given to `fit`; "pad" crops the padding.

    Returns:
        [height, width] or [height, width, C] float32, bilinear.

    Raises:
        ValueError: another `resize`, or `probs` that are not square.
    """
    if probs.ndim not in (2, 3) or probs.shape[0] != probs.shape[1]:
        raise ValueError(f"probs: want [S, S] or [S, S, C], got {probs.shape}.")
    if probs.ndim == 3:
        channels = [unfit(channel, height, width, resize) for channel in np.moveaxis(probs, 2, 0)]
        return np.stack(channels, axis=-1)
    rows, columns = _inner_box(height, width, probs.shape[0], resize)
    return _bilinear(probs[rows, columns].astype(np.float32, copy=False), height, width)


def _inner_box(height: int, width: int, image_size: int, resize: str) -> tuple[slice, slice]:
    """Rows and columns of the square that the image covers."""
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
    """[H, W] uint8 or float32 to [height, width]; Pillow widens the filter when shrinking.

    Along rows first, then along columns, each in a call of its own: in one call Pillow 13 chooses
    the order by the shapes, and a rounding between them makes one grey level of it.
    """
    if array.shape == (height, width):
        return array
    picture = Image.fromarray(array)
    for size in ((width, len(array)), (width, height)):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)
