"""A CT as the network sees it: resampled, cut to the lungs, at least a patch; and the way back."""

import dataclasses

import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.volume import hounsfield, resample


@dataclasses.dataclass(frozen=True)
class Volume:
    """A CT made ready for patches.

    Attributes:
        image: [D, H, W] int16, HU.
        mask: [D, H, W] uint8, bits of `record`.
        box: where it lies in the resampled volume; padding comes after.
        resampled_shape: of the whole volume at the network's spacing.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[slice, slice, slice]
    resampled_shape: tuple[int, int, int]

    @property
    def unpadded(self) -> tuple[slice, slice, slice]:
        """The part of the arrays that is no padding."""
        sizes = zip(self.box, self.resampled_shape, strict=True)
        return tuple(slice(len(range(*part.indices(size)))) for part, size in sizes)


def load(item: record.VolumeRecord, settings: settings_lib.PatchSettings) -> Volume:
    """Makes a record ready: common spacing, box around the lungs, at least a patch in size."""
    spacing = item.spacing_mm, settings.spacing_mm
    image = resample.to_spacing(item.image, *spacing, labels=False)
    mask = resample.to_spacing(item.mask, *spacing, labels=True)
    box = find_box(mask) if settings.crop_to_lungs else (slice(None),) * 3
    shape, image, mask = image.shape, image[box], mask[box]
    short = [
        (0, max(0, want - have))
        for want, have in zip(settings.patch_size, image.shape, strict=True)
    ]
    return Volume(
        image=np.ascontiguousarray(np.pad(image, short, constant_values=hounsfield.LOWEST_HU)),
        mask=np.ascontiguousarray(np.pad(mask, short)),
        box=box,
        resampled_shape=shape,
    )


def restore(values: np.ndarray, volume: Volume, shape: tuple[int, int, int]) -> np.ndarray:
    """Puts a map of a ready volume back into the record's own shape.

    Args:
        values: [D, H, W] float32 on `volume.image`'s voxels.
        volume: from `load`.
        shape: of the record's volume.

    Returns:
        `shape` float32; 0 outside the box.
    """
    whole = np.zeros(volume.resampled_shape, np.float32)
    whole[volume.box] = values[volume.unpadded]
    return resample.to_shape(whole, shape, labels=False)


def find_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The box around everything annotated; the whole volume if nothing is.

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
