"""What every dataset gives: a record of one image or volume, and random access to a split."""

import dataclasses
from typing import Protocol

import numpy as np

# Bits of a packed mask: classes may overlap, one byte holds them all on its way to the device.
LUNG = 1
INFECTION = 2


@dataclasses.dataclass(frozen=True)
class Record:
    """One image as stored, with its annotation.

    Attributes:
        image: [H, W] uint8, brighter is denser (bone is white).
        mask: [H, W] uint8, a sum of the bits `LUNG` and `INFECTION`.
        image_id: names the image within its dataset, unique.
        patient_id: the person; equal to `image_id` where the dataset does not say.
        group: what a table is broken down by ("COVID-19"), or "".
        label: 1 for COVID-19, 0 for anything else; for tasks that look for no pixels.
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
        mask: [D, H, W] uint8, a sum of the bits `LUNG` and `INFECTION`; infection
            is infection wherever it was annotated, within the lungs or not.
        spacing_mm: along D, H, W.
        shape: of the file, in its own order of axes.
        affine: [4, 4] float64 of the file, voxel (i, j, k) to RAS+ mm; with `shape` the way back.
        image_id: the case, unique.
        patient_id: the person.
        group: where the CT came from, "coronacases" or "radiopaedia".
        label: 1, as everybody here has COVID-19.
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


class Source(Protocol):
    """One split of a dataset: records by position, decoded when asked for."""

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, index: int) -> Record | VolumeRecord:
        """The record at `index` in [0, len)."""

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
