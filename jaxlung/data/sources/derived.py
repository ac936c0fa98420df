"""Sources made of other sources: a part of one, several in a row, or one with other lungs."""

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlung.config import run_files
from jaxlung.data import record
from jaxlung.data.transforms import resize


class Subset(record.Source[record.Item]):
    """The records of a source at `indices`, in that order."""

    def __init__(self, source: record.Source[record.Item], indices: Sequence[int]) -> None:
        self._source, self._indices = source, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> record.Item:
        return self._source[self._indices[index]]

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding images."""
        people = self._source.people()
        return [people[index] for index in self._indices]


class Joined(record.Source[record.Item]):
    """The records of several sources, one source after the other."""

    def __init__(self, sources: Sequence[record.Source[record.Item]]) -> None:
        self._sources = list(sources)
        self._ends = list(itertools.accumulate(len(source) for source in self._sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> record.Item:
        part = bisect.bisect_right(self._ends, index)
        return self._sources[part][index - (self._ends[part] - len(self._sources[part]))]

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding images."""
        return [pair for source in self._sources for pair in source.people()]


class WithLungs:
    """A source of images whose annotated lungs are replaced by lungs that a network found.

    Args:
        source: the records.
        masks: [N, S, S] bool, the lungs of each record.
        how: `resize` mode that brought the images to S x S, which is undone here.
    """

    def __init__(self, source: record.Source[record.Record], masks: np.ndarray, how: str) -> None:
        self._source, self._masks, self._how = source, masks, how

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> record.Record:
        item = self._source[index]
        height, width = item.image.shape
        shares = resize.unfit(self._masks[index].astype(np.float32), height, width, self._how)
        rest = item.mask & np.uint8(255 - record.LUNG)
        return dataclasses.replace(item, mask=rest | (shares > 0.5) * np.uint8(record.LUNG))

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding images."""
        return self._source.people()


def divide(
    source: record.Source[record.Item], split_of: Mapping[str, str]
) -> dict[str, Subset[record.Item]]:
    """Divides a source by patient; returns the records of each split.

    Args:
        source: the records.
        split_of: patient_id -> split.
    """
    indices = indices_of(source, split_of)
    return {split: Subset(source, own) for split, own in indices.items()}


def indices_of(source: record.Source, split_of: Mapping[str, str]) -> dict[str, list[int]]:
    """Returns the positions of each split's records; `split_of` maps patient_id to split."""
    people = source.people()
    return {
        split: [i for i, (_, patient) in enumerate(people) if split_of[patient] == split]
        for split in run_files.SPLITS
    }
