"""What the TFDS builders share: where the download lies, and examples read ahead by threads."""

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from jaxlung.host import progress

_CHUNK = 128  # Samples decoded ahead of the writer: a few dozen megabytes at most.
GREY_PNG = {"shape": (None, None, 1), "dtype": np.uint8, "encoding_format": "png"}

Sample = TypeVar("Sample")


class RawBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder that reads a download from a zip or a folder that the user names.

    `Builder(config=..., data_dir=..., raw_dir=..., file_format="array_record")`, then
    `download_and_prepare(file_format="array_record")` and `as_data_source("train")`.
    """

    def __init__(self, *, raw_dir: str | None = None, **kwargs: object) -> None:
        """Opens the builder.

        Args:
            raw_dir: the zip or the unpacked folder; None looks in TFDS's manual folder.
            **kwargs: of every TFDS builder: config, data_dir, file_format.
        """
        self._raw_dir = raw_dir
        super().__init__(**kwargs)

    def dataset_info_from_configs(self, **kwargs: object) -> tfds.core.DatasetInfo:
        """Makes the builder's info.

        While a dataset is not prepared, TFDS would ask its bucket for it, which has none of these,
        and leave an empty temporary folder behind each time.
        """
        info = super().dataset_info_from_configs(**kwargs)
        info.initialize_from_bucket = lambda: None
        return info

    def _place(self, dl_manager: tfds.download.DownloadManager) -> str | epath.Path:
        """Where the download lies.

        Raises:
            ValueError: no `raw_dir`, and nothing in the manual folder; has the instructions.
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
    """Yields `(example["image_id"], example)` of `load(sample)` in order; threads run ahead.

    Args:
        samples: what to load.
        load: makes an example; runs in several threads.
        where: the download, for the progress line.
    """

    def examples() -> Iterator[tuple[str, dict[str, Any]]]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for start in range(0, len(samples), _CHUNK):
                for example in pool.map(load, samples[start : start + _CHUNK]):
                    yield example["image_id"], example

    return progress.report(examples(), f"reading {where}", "images", len(samples))
