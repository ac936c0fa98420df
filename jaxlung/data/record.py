"""What every dataset gives: a record of one image, and random access to a split of them."""

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


class Source(Protocol):
    """One split of a dataset: records by position, decoded when asked for."""

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, index: int) -> Record:
        """The record at `index` in [0, len)."""

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
