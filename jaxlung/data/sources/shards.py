"""Records of one split of a prepared dataset; one that can't be read is told with its file."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from jaxlung.data.sources import receipt
from jaxlung.host import files


class Shards:
    """Examples by position, read from the ArrayRecord files of a split.

    Their chunks bear checksums, so that a changed byte is noticed when it is read.

    Args:
        builder: prepared.
        split: its name there.
        undecoded: features to leave as they are stored.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, undecoded: tuple[str, ...] = ()
    ) -> None:
        decoders = dict.fromkeys(undecoded, tfds.decode.SkipDecoding())
        self._folder = pathlib.Path(builder.data_path)
        self._shards = builder.info.splits[split].file_instructions
        self._records = builder.as_data_source(split, decoders=decoders or None)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        try:
            return self._records[index]
        except files.DECODE_ERRORS as error:
            file = self._file(index)
            if file.exists():
                file.open("rb").close()  # No permission or too many open files is no damage.
            raise receipt.damaged(file, self._folder, str(error)) from error

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[index] for index in range(len(self)))

    def _file(self, index: int) -> pathlib.Path:
        """The shard that holds a record."""
        for shard in self._shards:
            if index < shard.take:
                return pathlib.Path(shard.filename)
            index -= shard.take
        return self._folder
