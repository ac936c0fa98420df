"""Datasets that a TFDS builder prepares once, as ArrayRecord files with random access."""

import contextlib
import functools
import io
import json
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from jaxlung import files, interrupt
from jaxlung.data import record

COVID = "COVID-19"  # the group that a diagnosis looks for


class PreparedSource:
    """One split of a prepared dataset with "image", "lung_mask" and maybe "infection_mask".

    Args:
        builder: prepared.
        split: its name there.
        prefix: goes before image ids, to tell datasets apart that are used together.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, prefix: str = "") -> None:
        self._records = builder.as_data_source(split)
        self._undecoded = builder.as_data_source(
            split,
            decoders={
                name: tfds.decode.SkipDecoding()
                for name, feature in builder.info.features.items()
                if isinstance(feature, tfds.features.Image)
            },
        )
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
    variants = list(make_builder.builder_configs)
    if variant not in variants:
        name = make_builder.name
        raise ValueError(
            f"data.name: got {name}/{variant}, want one of "
            f"{', '.join(f'{name}/{known}' for known in variants)}."
        )
    if phantom_images:
        folder /= f"phantom_{make_builder.name}_v{phantoms.VERSION}_{phantom_images}"
        raw_dir = str(folder / "raw")
    make = functools.partial(
        make_builder, config=variant, data_dir=folder, file_format="array_record"
    )
    builder = make(raw_dir=raw_dir or None)
    if download and (raw_dir or phantom_images):
        raise ValueError("data.download: got raw_dir or phantom_images too, want only one of them.")
    if not (builder.is_prepared() or may_prepare):
        raise FileNotFoundError(
            f"{builder.info.full_name} is not in {folder}, which the run's config.json names; say "
            "where it is, or may be prepared, with --config.data.data_dir=FOLDER."
        )
    if not builder.is_prepared():
        if phantom_images:
            logging.info("generating %d %s in %s", phantom_images, phantoms.THINGS, raw_dir)
            with interrupt.clean_up():
                phantoms.write(pathlib.Path(raw_dir), phantom_images)
        elif not raw_dir:
            raw_dir = _find_raw(make_builder, folder, download, raw_field)
            builder = make(raw_dir=raw_dir or None)
        prepare(builder, raw_dir, quietly=bool(phantom_images))
    elif raw_dir and not phantom_images:
        _require_same_raw(builder, raw_dir)
    if needs & record.INFECTION and "infection_mask" not in builder.info.features:
        raise ValueError(f"data.name: {builder.info.full_name} has no infection masks.")
    return builder


def open_splits(builder: tfds.core.DatasetBuilder) -> dict[str, PreparedSource]:
    """The sources of a dataset that was published in splits."""
    return {split: PreparedSource(builder, split) for split in ("train", "validation", "test")}


def _find_raw(
    make_builder: type[tfds.core.GeneratorBasedBuilder],
    folder: pathlib.Path,
    download: bool,
    raw_field: str,
) -> str:
    """Path of a fresh download; "" for the builder's manual folder, if there is anything in it."""
    if download:
        with interrupt.clean_up():
            return str(make_builder.fetch(folder / "downloads" / make_builder.name))
    manual = folder / "downloads" / "manual"
    if not (manual.is_dir() and any(manual.iterdir())):
        raise FileNotFoundError(
            f"{make_builder.name} is not in {folder}. {make_builder.MANUAL_DOWNLOAD_INSTRUCTIONS} "
            f"(This folder: {manual}; raw_dir: --config.data.{raw_field}=PATH; to try without "
            "data, add :phantom to the config's name.)"
        )
    return ""


def prepare(builder: tfds.core.DatasetBuilder, raw_dir: str, *, quietly: bool) -> None:
    """Reads the download into ArrayRecord files; whole or not at all.

    Args:
        builder: of the dataset.
        raw_dir: the download, or "".
        quietly: leave out the builder's remarks; phantoms never have the published counts.
    """
    logging.info("preparing %s in %s", builder.info.full_name, builder.data_path)
    verbosity = logging.get_verbosity()
    if quietly:
        logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()  # The builder tells its own progress, by images.
    try:
        with interrupt.clean_up(), contextlib.redirect_stdout(io.StringIO()):  # TFDS prints.
            builder.download_and_prepare(file_format="array_record")
    finally:
        logging.set_verbosity(verbosity)
    text = json.dumps({"raw_dir": _absolute(raw_dir)}) + "\n"
    files.write_text(_raw_file(builder), text)


def _require_same_raw(builder: tfds.core.DatasetBuilder, raw_dir: str) -> None:
    """Raises ValueError if the prepared data came from another download than `raw_dir`."""
    if not _raw_file(builder).exists():
        logging.warning("%s: what it was prepared from is not known", builder.data_path)
        return
    made_from = json.loads(_raw_file(builder).read_text())["raw_dir"]
    if made_from != _absolute(raw_dir):
        raise ValueError(
            f"{builder.data_path} was prepared from {made_from or 'the manual folder'}, not from "
            f"{_absolute(raw_dir)}; remove it, choose another --config.data.data_dir, or, if the "
            "download was only moved, leave its path out."
        )


def _raw_file(builder: tfds.core.DatasetBuilder) -> epath.Path:
    return builder.data_path / "jaxlung_raw_dir.json"


def _absolute(path: str) -> str:
    return str(pathlib.Path(path).expanduser().resolve()) if path else ""
