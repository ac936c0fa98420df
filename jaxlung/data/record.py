"""The contract of every dataset: a record of one image or volume, and random access to a split."""

import dataclasses
from typing import Protocol, TypeVar

import numpy as np

# Bits of a packed mask: classes may overlap, one byte holds them all on its way to the device.
LUNG = 1
INFECTION = 2
BITS = {"lung": LUNG, "infection": INFECTION}  # by the name of a target in a config


@dataclasses.dataclass(frozen=True)
class Record:
    """One image as stored, with its annotation.

    Attributes:
        image: [H, W] uint8, brighter is denser (bone is white).
        mask: [H, W] uint8, a sum of the bits `LUNG` and `INFECTION`.
        image_id: name of the image, unique within its dataset.
        patient_id: name of the person; `image_id` where the dataset does not name people.
        group: class of images that scores are reported for ("COVID-19"), or "".
        label: 1 for COVID-19, 0 for anything else; the target of tasks that predict no mask.
    """

    image: np.ndarray
    mask: np.ndarray
    image_id: str
    patient_id: str
    group: str
    label: int = 0


@dataclasses.dataclass(frozen=True)
class VolumeRecord:
    """One CT with its annotation, in canonical order.

    Attributes:
        image: [D, H, W] int16 HU; slices, rows, columns to superior, posterior, left.
        mask: [D, H, W] uint8, a sum of the bits `LUNG` and `INFECTION`; infection may be annotated
            outside the lungs.
        spacing_mm: distance of neighbouring voxels along D, H, W, mm.
        shape: shape of the file's array, in the file's own order of axes.
        affine: [4, 4] float64 of the file, voxel (i, j, k) to RAS+ mm. Together with `shape` it
            maps results back to the file's grid.
        image_id: name of the case, unique within its dataset.
        patient_id: name of the person.
        group: origin of the CT, "coronacases" or "radiopaedia".
        label: 1: every patient in the datasets of CTs has COVID-19.
    """

    image: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    affine: np.ndarray
    image_id: str
    patient_id: str
    group: str
    label: int = 1


Item = TypeVar("Item", bound=Record | VolumeRecord, covariant=True)


class Source(Protocol[Item]):
    """One split of a dataset: records by position, decoded when they are asked for."""

    def __len__(self) -> int:
        """Returns the number of records."""
        ...

    def __getitem__(self, index: int) -> Item:
        """Returns the record at `index` in [0, len)."""
        ...

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding images."""
        ...
