"""Datasets that a TFDS builder prepares once, as ArrayRecord files with random access."""

import functools
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from jaxlung.data import record
from jaxlung.data.sources import preparing, receipt, shards
from jaxlung.host import files

COVID = "COVID-19"  # the group that a diagnosis looks for


class PreparedSource:
    """One split of a prepared dataset with "image", "lung_mask" and maybe "infection_mask".

    Args:
        builder: prepared.
        split: its name there.
        prefix: goes before image ids, to tell datasets apart that are used together.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, prefix: str = "") -> None:
        images = [
            name
            for name, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        ]
        self._records = shards.Shards(builder, split)
        self._undecoded = shards.Shards(builder, split, undecoded=tuple(images))
        self._groups = builder.info.features["label"].names
        self._prefix = prefix

    def __len__(self) -> int:
        return len(self._records)

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

    def people(self) -> list[tuple[str, str]]:
        """(image_id, patient_id) of every record, without decoding images."""
        return [who for who, _ in self._whos_and_groups]

    def groups(self) -> list[str]:
        """The group of every record, without decoding images."""
        return [group for _, group in self._whos_and_groups]

    @functools.cached_property
    def _whos_and_groups(self) -> list[tuple[tuple[str, str], str]]:
        """All records are read for it, once."""
        return [(self._who(example), self._group(example)) for example in self._undecoded]

    def _who(self, example: Mapping[str, Any]) -> tuple[str, str]:
        image_id = self._prefix + example["image_id"].decode()
        if "patient_id" not in example:
            return image_id, image_id  # The dataset doesn't say who is who.
        return image_id, example["patient_id"].decode()

    def _group(self, example: Mapping[str, Any]) -> str:
        return self._groups[example["label"]]


def open_builder(
    make_builder: type[tfds.core.GeneratorBasedBuilder],
    variant: str,
    *,
    needs: int,
    phantoms: types.ModuleType,
    data_dir: str,
    raw_dir: str,
    download: bool,
    phantom_images: int,
    raw_field: str = "raw_dir",
    may_prepare: bool = True,
) -> tfds.core.DatasetBuilder:
    """Opens a dataset, preparing it first if that was not done yet.

    Args:
        make_builder: the TFDS builder's class.
        variant: its config, "infection".
        needs: bits of `record` that must be annotated.
        phantoms: its generator, of `tfds_builders.phantoms`.
        data_dir: folder of prepared datasets.
        raw_dir: the download, zip or folder; "" for the builder's manual folder.
        download: fetch the download instead, as far as that can be done.
        phantom_images: more than 0 generates that many images in place of the download.
        raw_field: what the config calls `raw_dir`, for messages.
        may_prepare: False only opens what was prepared, and writes nothing.

    Returns:
        The builder, prepared.

    Raises:
        ValueError: an unknown variant, a damaged download, or annotations that are not there.
        FileNotFoundError: no download; says where to get it and where to put it.
    """
    folder = pathlib.Path(data_dir).expanduser()
    name, variants = make_builder.name, list(make_builder.builder_configs)
    if variant not in variants:
        known = ", ".join(f"{name}/{known}" for known in variants)
        raise ValueError(f"data.name: got {name}/{variant}, want one of {known}.")
    if download and (raw_dir or phantom_images):
        raise ValueError("data.download: got raw_dir or phantom_images too, want only one of them.")
    if phantom_images:
        folder /= f"phantom_{name}_v{phantoms.VERSION}_{phantom_images}"
        raw_dir = str(folder / "raw")
    make = functools.partial(make_builder, config=variant, file_format="array_record")
    place = folder / name / variant / str(make_builder.VERSION)
    if not (preparing.is_made(place) or may_prepare):
        raise FileNotFoundError(
            f"{name}/{variant} is not in {folder}, which the run's config.json names; say "
            "where it is, or may be prepared, with --config.data.data_dir=FOLDER."
        )
    if not (preparing.is_made(place) or raw_dir or download):
        raw_dir = _require_manual(make_builder, folder, raw_field)

    def prepare() -> None:
        raw = raw_dir or str(make_builder.fetch(folder / "downloads" / name))
        if phantom_images:
            logging.info("generating %d %s in %s", phantom_images, phantoms.THINGS, raw)
            phantoms.write(pathlib.Path(raw), phantom_images)
        preparing.make(make, raw, place, quietly=bool(phantom_images))

    if may_prepare:
        preparing.once(place, prepare)
    receipt.check(place, "" if phantom_images else raw_dir)
    builder = _open(make, folder, place)
    if needs & record.INFECTION and "infection_mask" not in builder.info.features:
        raise ValueError(f"data.name: {builder.info.full_name} has no infection masks.")
    return builder


def open_splits(builder: tfds.core.DatasetBuilder) -> dict[str, PreparedSource]:
    """The sources of a dataset that was published in splits."""
    return {split: PreparedSource(builder, split) for split in ("train", "validation", "test")}


def _open(
    make: Callable[..., tfds.core.DatasetBuilder], folder: pathlib.Path, place: pathlib.Path
) -> tfds.core.DatasetBuilder:
    """The builder of a prepared dataset; TFDS says of damage neither where nor in a sentence."""
    try:
        return make(data_dir=folder)
    except (AssertionError, json_format.Error, *files.DECODE_ERRORS) as error:
        raise receipt.damaged(place / "dataset_info.json", place, str(error)) from error


def _require_manual(
    make_builder: type[tfds.core.GeneratorBasedBuilder], folder: pathlib.Path, raw_field: str
) -> str:
    """Path of the folder for downloads made by hand, if there is anything in it."""
    manual = folder / "downloads" / "manual"
    if not (manual.is_dir() and any(manual.iterdir())):
        raise FileNotFoundError(
            f"{make_builder.name} is not in {folder}. {make_builder.MANUAL_DOWNLOAD_INSTRUCTIONS} "
            f"(This folder: {manual}; raw_dir: --config.data.{raw_field}=PATH; to try without "
            "data, add :phantom to the config's name.)"
        )
    return str(manual)
