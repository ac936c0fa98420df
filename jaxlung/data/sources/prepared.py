"""Records that a TFDS builder prepared, read from ArrayRecord files with random access."""

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxlung.data import record
from jaxlung.data.sources import receipt
from jaxlung.host import files

COVID = "COVID-19"  # the group that a diagnosis looks for
_VOLUMES = ("ct", "lung_mask", "infection_mask")


class Shards:
    """Examples by position, read from the ArrayRecord files of a split.

    Their chunks have checksums, so that a changed byte is noticed when it is read.

    Args:
        builder: prepared.
        split: name of the split in the builder.
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
        """Returns the example at `index`.

        Raises:
            ValueError: the file of the example is damaged; names it.
        """
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
        """Returns the path of the shard that holds a record."""
        for shard in self._shards:
            if index < shard.take:
                return pathlib.Path(shard.filename)
            index -= shard.take
        return self._folder


class Prepared(record.Source[record.Item]):
    """One split of a prepared dataset; subclasses make the records.

    Args:
        builder: prepared.
        split: name of the split in the builder.
        pixels: features with pixels, which need not be decoded to know whose they are.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, pixels: tuple[str, ...]
    ) -> None:
        self._records = Shards(builder, split)
        self._undecoded = Shards(builder, split, undecoded=pixels)
        self._groups = builder.info.features["label"].names

    def __len__(self) -> int:
        return len(self._records)

    def people(self) -> list[tuple[str, str]]:
        """Returns (image_id, patient_id) of every record, without decoding pixels."""
        return [who for who, _ in self._whos_and_groups]

    def groups(self) -> list[str]:
        """Returns the group of every record, without decoding pixels."""
        return [group for _, group in self._whos_and_groups]

    @functools.cached_property
    def _whos_and_groups(self) -> list[tuple[tuple[str, str], str]]:
        """Returns ((image_id, patient_id), group) of every record; reads all records, once."""
        return [(self._who(example), self._group(example)) for example in self._undecoded]

    def _who(self, example: Mapping[str, Any]) -> tuple[str, str]:
        image_id = example["image_id"].decode()
        if "patient_id" not in example:  # The dataset does not name people.
            return image_id, image_id
        return image_id, example["patient_id"].decode()

    def _group(self, example: Mapping[str, Any]) -> str:
        return self._groups[example["label"]]


class PreparedImages(Prepared[record.Record]):
    """One split of prepared images: "image", "lung_mask" and maybe "infection_mask".

    Args:
        builder: prepared.
        split: name of the split in the builder.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        images = [
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        ]
        super().__init__(builder, split, tuple(images))

    def __getitem__(self, index: int) -> record.Record:
        example = self._records[index]
        mask = (example["lung_mask"][..., 0] > 0) * np.uint8(record.LUNG)
        if "infection_mask" in example:
            mask |= (example["infection_mask"][..., 0] > 0) * np.uint8(record.INFECTION)
        image_id, patient_id = self._who(example)
        group = self._group(example)
        return record.Record(
            image=example["image"][..., 0],
            mask=mask,
            image_id=image_id,
            patient_id=patient_id,
            group=group,
            label=int(group == COVID),
        )


class PreparedVolumes(Prepared[record.VolumeRecord]):
    """One split of prepared CTs, such as `covid19_ct_seg`.

    Args:
        builder: prepared.
        split: name of the split in the builder.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        super().__init__(builder, split, _VOLUMES)

    def __getitem__(self, index: int) -> record.VolumeRecord:
        example = self._records[index]
        mask = (example["lung_mask"] > 0) * np.uint8(record.LUNG)
        mask |= (example["infection_mask"] > 0) * np.uint8(record.INFECTION)
        image_id, patient_id = self._who(example)
        return record.VolumeRecord(
            image=example["ct"],
            mask=mask,
            spacing_mm=tuple(example["spacing_mm"].tolist()),
            shape=tuple(example["shape"].tolist()),
            affine=example["affine"],
            image_id=image_id,
            patient_id=patient_id,
            group=self._group(example),
        )
