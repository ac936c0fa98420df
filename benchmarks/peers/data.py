"""Generated X-rays and CTs for both sides; needs only NumPy and Pillow."""

import io

import numpy as np
import PIL.Image

LUNG, INFECTION = 1, 2  # Bits of `jaxlung.data.record`.
LEAST_PICTURES = 32
NUM_VOLUMES = 2
MARGIN = 16  # voxels by which a volume is larger than a patch, along each axis
PATCHES_PER_VOLUME = 50  # as in jaxlung's config


class Pictures:
    """X-rays as PNGs in memory, decoded on access, like files in the cache of a disk.

    Args:
        batch_size: least number of X-rays.
        size: height and width, pixels.
    """

    def __init__(self, batch_size: int, size: int) -> None:
        count = max(LEAST_PICTURES, batch_size)
        self._files = [_make_files(np.random.default_rng(i), size) for i in range(count)]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image [H, W] uint8 and its mask [H, W] uint8 of packed bits."""
        image, mask = (np.asarray(PIL.Image.open(io.BytesIO(x))) for x in self._files[index])
        return image, mask


def make_volumes(patch_size: tuple[int, int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns CTs to cut patches from: [D, H, W] int16 HU, and [D, H, W] uint8 packed masks."""
    shape = tuple(size + MARGIN for size in patch_size)
    volumes = []
    for i in range(NUM_VOLUMES):
        np_rng = np.random.default_rng(i)
        row, column = np.mgrid[: shape[1], : shape[2]] / np.array(shape[1:]).reshape(2, 1, 1)
        disc = _disc_masks(np.hypot(row - 0.5, column - np_rng.uniform(0.4, 0.6)))
        mask = np.repeat(disc[None], shape[0], axis=0)
        hu = np_rng.normal(-850, 60, shape) + 300.0 * (mask & INFECTION)
        volumes.append((hu.astype(np.int16), mask))
    return volumes


def _make_files(np_rng: np.random.Generator, size: int) -> tuple[bytes, bytes]:
    row, column = np.mgrid[:size, :size] / size
    mask = _disc_masks(np.hypot(row - 0.5, column - np_rng.uniform(0.4, 0.6)))
    image = 60 + 60 * row + 50 * mask + np_rng.normal(0, 4, (size, size))
    return _png(np.clip(image, 0, 255).astype(np.uint8)), _png(mask)


def _disc_masks(distance: np.ndarray) -> np.ndarray:
    lung, infection = distance < 0.35, distance < 0.15
    return (LUNG * lung + INFECTION * infection).astype(np.uint8)


def _png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, format="png")
    return file.getvalue()
