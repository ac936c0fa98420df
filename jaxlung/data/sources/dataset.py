"""A dataset that `data.name` can name: its splits, and what TFDS builders prepare for it."""

import dataclasses
import functools
import importlib.resources
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from jaxlung.data import record
from jaxlung.data.sources import preparing, receipt
from jaxlung.host import files
from tfds_builders import raw_builder

Splits = Mapping[str, record.Source]


@dataclasses.dataclass(frozen=True)
class Part:
    """One prepared dataset: a TFDS builder and the phantoms that stand in for its download.

    Attributes:
        builder: class of the builder.
        phantoms: module that writes a generated download, of `tfds_builders.phantoms`.
        raw_field: field of a config's `data` section that holds the path of the download. Its name
            begins with "raw_dir", so that it may change when a run is resumed.
    """

    builder: type[raw_builder.RawBuilder]
    phantoms: types.ModuleType
    raw_field: str = "raw_dir"

    @property
    def name(self) -> str:
        """Name of the builder, which is also its folder in `tfds_builders`."""
        return self.builder.name

    def place(self, data_dir: str, variant: str, phantom_images: int) -> pathlib.Path:
        """Returns the folder of the prepared data, DATA_DIR/NAME/VARIANT/VERSION.

        Args:
            data_dir: folder of all prepared datasets.
            variant: name of the builder's config.
            phantom_images: number of generated images, which have a folder of their own; 0 for the
                real download.
        """
        folder = pathlib.Path(data_dir).expanduser()
        if phantom_images:
            folder /= f"phantom_{self.name}_v{self.phantoms.VERSION}_{phantom_images}"
        return folder / self.name / variant / str(self.builder.VERSION)

    def open(
        self,
        variant: str,
        *,
        needs: int,
        data_dir: str,
        raw_dir: str,
        download: bool,
        phantom_images: int,
        may_prepare: bool,
    ) -> tfds.core.DatasetBuilder:
        """Opens the prepared data, preparing them first if that was not done yet.

        Args:
            variant: name of the builder's config, such as "infection".
            needs: bits of `record` that must be annotated.
            data_dir: folder of prepared datasets.
            raw_dir: path of the download, a zip or a folder; "" for the builder's manual folder.
            download: True fetches the download, where the builder can do that.
            phantom_images: number of images to generate in place of the download; 0 for none.
            may_prepare: False only opens what was prepared, and writes nothing.

        Returns:
            The builder, prepared.

        Raises:
            ValueError: an unknown variant, a damaged download, or missing annotations.
            FileNotFoundError: no download; says where to get it and where to put it.
        """
        self._require_variant(variant)
        if download and (raw_dir or phantom_images):
            raise ValueError(
                "data.download: got raw_dir or phantom_images too, want only one of them."
            )
        place = self.place(data_dir, variant, phantom_images)
        folder = place.parents[2]
        if phantom_images:
            raw_dir = str(folder / "raw")
        make = functools.partial(self.builder, config=variant, file_format="array_record")
        if not (preparing.is_made(place) or may_prepare):
            raise FileNotFoundError(
                f"{self.name}/{variant} is not in {folder}, which the run's config.json names; say "
                "where it is, or may be prepared, with --config.data.data_dir=FOLDER."
            )
        if not (preparing.is_made(place) or raw_dir or download):
            raw_dir = self._require_manual(folder)

        def prepare() -> None:
            raw = raw_dir or str(self.builder.fetch(folder / "downloads" / self.name))
            if phantom_images:
                self._write_phantoms(raw, phantom_images)
            preparing.make(make, raw, place, quietly=bool(phantom_images))

        if may_prepare:
            preparing.once(place, prepare)
        receipt.check(place, "" if phantom_images else raw_dir)
        builder = _open_prepared(make, place)
        if needs & record.INFECTION and "infection_mask" not in builder.info.features:
            raise ValueError(f"data.name: {builder.info.full_name} has no infection masks.")
        return builder

    def about(self) -> str:
        """Returns the first and last paragraph of the builder's README: description and licence."""
        readme = importlib.resources.files("tfds_builders") / self.name / "README.md"
        paragraphs = readme.read_text().strip().split("\n\n")
        return "\n\n".join((paragraphs[0], paragraphs[-1]))

    def _require_variant(self, variant: str) -> None:
        variants = list(self.builder.builder_configs)
        if variant not in variants:
            known = ", ".join(f"{self.name}/{known}" for known in variants)
            raise ValueError(f"data.name: got {self.name}/{variant}, want one of {known}.")

    def _require_manual(self, folder: pathlib.Path) -> str:
        """Returns the path of the folder for downloads made by hand, if it holds anything."""
        manual = folder / "downloads" / "manual"
        if not (manual.is_dir() and any(manual.iterdir())):
            raise FileNotFoundError(
                f"{self.name} is not in {folder}. {self.builder.MANUAL_DOWNLOAD_INSTRUCTIONS} "
                f"(This folder: {manual}; raw_dir: --config.data.{self.raw_field}=PATH; to try "
                "without data, add :phantom to the config's name.)"
            )
        return str(manual)

    def _write_phantoms(self, raw: str, phantom_images: int) -> None:
        logging.info("generating %d %s in %s", phantom_images, self.phantoms.THINGS, raw)
        self.phantoms.write(pathlib.Path(raw), phantom_images)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset that `data.name` can name; `datasets.DATASETS` lists them.

    Attributes:
        open_splits: opens "train", "validation" and "test". Takes the variant, which is what
            `data.name` has after its slash, then by keyword `needs` (bits of `record` that must be
            annotated), `seed` (of drawn splits), the dataset's own fields of `data`, and
            `may_prepare` if there are `parts`.
        parts: prepared datasets that it reads; () for a user's own files.
        negative_groups: returns, from the fields of `data`, the groups of records that are
            declared to show nothing of what is looked for. None: any group may.
    """

    open_splits: Callable[..., Splits]
    parts: tuple[Part, ...] = ()
    negative_groups: Callable[[Mapping[str, Any]], set[str]] | None = None


def _open_prepared(
    make: Callable[..., tfds.core.DatasetBuilder], place: pathlib.Path
) -> tfds.core.DatasetBuilder:
    """Opens the builder of prepared data; TFDS's errors name neither the file nor the damage."""
    try:
        return make(data_dir=place.parents[2])
    except (AssertionError, json_format.Error, *files.DECODE_ERRORS) as error:
        raise receipt.damaged(place / "dataset_info.json", place, str(error)) from error
