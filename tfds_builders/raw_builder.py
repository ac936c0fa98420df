"""The base of all TFDS builders: finding the download, and reading examples with threads."""

import concurrent.futures
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from jaxlung.host import progress

_CHUNK = 128  # Samples decoded ahead of the writer: at most a few dozen megabytes.
GREY_PNG = {"shape": (None, None, 1), "dtype": np.uint8, "encoding_format": "png"}

Sample = TypeVar("Sample")


# TFDS imports its classes lazily, so a type checker knows neither the base nor its argument.
class RawBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder that reads a download from a zip or a folder that the user names.

    `Builder(config=..., data_dir=..., raw_dir=..., file_format="array_record")`, then
    `download_and_prepare(file_format="array_record")` and `as_data_source("train")`.
    """

    def __init__(self, *, raw_dir: str | None = None, **kwargs: object) -> None:
        """Opens the builder.

        Args:
            raw_dir: path of the zip or the unpacked folder; None for TFDS's manual folder.
            **kwargs: arguments of every TFDS builder: config, data_dir, file_format.
        """
        self._raw_dir = raw_dir
        super().__init__(**kwargs)

    @classmethod
    def fetch(cls, folder: pathlib.Path) -> pathlib.Path:
        """Downloads the data into `folder`, and returns the path for `raw_dir`.

        Raises:
            ValueError: the data can't be downloaded; says how to get them.
            OSError: the files can't be written.
        """
        raise NotImplementedError

    def dataset_info_from_configs(self, **kwargs: object) -> tfds.core.DatasetInfo:
        """Makes the builder's info.

        While a dataset is not prepared, TFDS would look for it in its bucket, which has none of
        these, and leave an empty temporary folder behind each time.
        """
        info = super().dataset_info_from_configs(**kwargs)
        info.initialize_from_bucket = lambda: None
        return info

    def _place(self, dl_manager: tfds.download.DownloadManager) -> str | epath.Path:
        """Returns the path of the download.

        Raises:
            ValueError: no `raw_dir`, and nothing in the manual folder; gives the instructions.
        """
        if self._raw_dir:
            return self._raw_dir
        try:
            return dl_manager.manual_dir
        except AssertionError as error:  # Absent or empty.
            raise ValueError(" ".join(str(error).split())) from error


def load_in_order(
    samples: Sequence[Sample], load: Callable[[Sample], dict[str, Any]], where: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields `(image_id, example)` of each sample in order, loaded ahead by threads.

    Args:
        samples: samples to load.
        load: function from a sample to an example, which has "image_id"; runs in several threads.
        where: name of the download, for the progress line.
    """

    def examples() -> Iterator[tuple[str, dict[str, Any]]]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for start in range(0, len(samples), _CHUNK):
                for example in pool.map(load, samples[start : start + _CHUNK]):
                    yield example["image_id"], example

    return progress.report(examples(), f"reading {where}", "images", len(samples))
