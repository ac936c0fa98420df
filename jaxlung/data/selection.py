"""Parts of sources, and several as one."""

import bisect
import itertools
from collections.abc import Sequence

from jaxlung.data import record


class Subset:
    """The records of a source at `indices`, in that order."""

    def __init__(self, source: record.Source, indices: Sequence[int]) -> None:
        self._source, self._indices = source, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> record.Record:
        return self._source[self._indices[index]]

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
        people = self._source.people()
        return [people[index] for index in self._indices]


class Joined:
    """Sources one after the other."""

    def __init__(self, sources: Sequence[record.Source]) -> None:
        self._sources = list(sources)
        self._ends = list(itertools.accumulate(len(source) for source in self._sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> record.Record:
        part = bisect.bisect_right(self._ends, index)
        return self._sources[part][index - (self._ends[part] - len(self._sources[part]))]

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
        return [pair for source in self._sources for pair in source.people()]
