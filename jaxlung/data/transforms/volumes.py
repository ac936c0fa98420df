"""Makes a CT ready for the network (resampled, cut to the lungs, padded), and maps results back."""

import dataclasses

import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.volume import hounsfield, resample

Box = tuple[slice, ...]  # along D, H, W


@dataclasses.dataclass(frozen=True)
class Volume:
    """A CT made ready for patches.

    Attributes:
        image: [D, H, W] int16, HU.
        mask: [D, H, W] uint8, bits of `record`.
        box: its place in the resampled volume; padding comes after it.
        resampled_shape: shape of the whole volume at the network's spacing.
    """

    image: np.ndarray
    mask: np.ndarray
    box: Box
    resampled_shape: tuple[int, ...]

    @property
    def unpadded(self) -> tuple[slice, ...]:
        """The part of the arrays that is not padding."""
        sizes = zip(self.box, self.resampled_shape, strict=True)
        return tuple(slice(len(range(*part.indices(size)))) for part, size in sizes)


def load(item: record.VolumeRecord, settings: settings_lib.PatchSettings) -> Volume:
    """Resamples a CT, cuts it to the box around the lungs, and pads it to the size of a patch."""
    shape = resample.shape_at(item.image.shape, item.spacing_mm, settings.spacing_mm)
    mask = resample.to_shape(item.mask, shape, labels=True)
    box = find_box(mask) if settings.crop_to_lungs else (slice(None),) * 3
    image, mask = resample.to_shape(item.image, shape, labels=False, box=box), mask[box]
    return Volume(
        image=_pad(image, settings.patch_size, hounsfield.LOWEST_HU),
        mask=_pad(mask, settings.patch_size, 0),
        box=box,
        resampled_shape=shape,
    )


def _pad(array: np.ndarray, least: tuple[int, ...], value: int) -> np.ndarray:
    """Returns an array of at least this shape, contiguous; may share memory with `array`."""
    sizes = zip(least, array.shape, strict=True)
    short = [(0, max(0, want - have)) for want, have in sizes]
    if np.any(short):
        array = np.pad(array, short, constant_values=value)
    return np.ascontiguousarray(array)


def restore(values: np.ndarray, volume: Volume, shape: tuple[int, int, int]) -> np.ndarray:
    """Puts a map of a ready volume back into the record's own shape.

    Args:
        values: [D, H, W] float32 on the voxels of `volume.image`.
        volume: result of `load`.
        shape: shape of the record's volume.

    Returns:
        float32 of that shape; 0 outside the box.
    """
    whole = np.zeros(volume.resampled_shape, np.float32)
    whole[volume.box] = values[volume.unpadded]
    return resample.to_shape(whole, shape, labels=False)


def find_box(mask: np.ndarray) -> Box:
    """Returns the box around everything annotated, or the whole volume if nothing is.

    Args:
        mask: [D, H, W] uint8, bits of `record`.
    """
    annotated = mask & (record.LUNG | record.INFECTION) != 0
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        (found,) = np.nonzero(annotated.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(None))
    return tuple(box)
