"""CT volumes that a TFDS builder prepared, as records with random access."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data import record

_VOLUMES = ("ct", "lung_mask", "infection_mask")


@dataclasses.dataclass(frozen=True)
class VolumeRecord:
    """One CT with its annotation, in canonical order.

    Attributes:
        image: [D, H, W] int16 HU; slices, rows, columns to superior, posterior, left.
        mask: [D, H, W] uint8, a sum of the bits `record.LUNG` and `record.INFECTION`; infection
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


class PreparedVolumes:
    """One split of a prepared dataset of CTs, such as `covid19_ct_seg`.

    Args:
        builder: prepared.
        split: its name there.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._records = builder.as_data_source(split)
        self._groups = builder.info.features["label"].names
        self._packed = builder.as_data_source(
            split, decoders=dict.fromkeys(_VOLUMES, tfds.decode.SkipDecoding())
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> VolumeRecord:
        example = self._records[index]
        mask = (example["lung_mask"] > 0) * np.uint8(record.LUNG)
        mask |= (example["infection_mask"] > 0) * np.uint8(record.INFECTION)
        image_id, patient_id = _who(example)
        return VolumeRecord(
            image=example["ct"],
            mask=mask,
            spacing_mm=tuple(example["spacing_mm"].tolist()),
            shape=tuple(example["shape"].tolist()),
            affine=example["affine"],
            image_id=image_id,
            patient_id=patient_id,
            group=self._groups[example["label"]],
        )

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without unpacking volumes."""
        return [who for who, _ in self._whos_and_groups]

    def groups(self) -> list[str]:
        """The group of every record, without unpacking volumes."""
        return [group for _, group in self._whos_and_groups]

    @functools.cached_property
    def _whos_and_groups(self) -> list[tuple[tuple[str, str], str]]:
        """All records are read for it, once."""
        return [(_who(example), self._groups[example["label"]]) for example in self._packed]


def _who(example: Mapping[str, Any]) -> tuple[str, str]:
    return example["image_id"].decode(), example["patient_id"].decode()
