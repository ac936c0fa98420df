"""CT volumes that a TFDS builder prepared, as records with random access."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data import record
from jaxlung.data.sources import shards

_VOLUMES = ("ct", "lung_mask", "infection_mask")


class PreparedVolumes:
    """One split of a prepared dataset of CTs, such as `covid19_ct_seg`.

    Args:
        builder: prepared.
        split: its name there.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._records = shards.Shards(builder, split)
        self._groups = builder.info.features["label"].names
        self._packed = shards.Shards(builder, split, undecoded=_VOLUMES)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> record.VolumeRecord:
        example = self._records[index]
        mask = (example["lung_mask"] > 0) * np.uint8(record.LUNG)
        mask |= (example["infection_mask"] > 0) * np.uint8(record.INFECTION)
        image_id, patient_id = _who(example)
        return record.VolumeRecord(
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
