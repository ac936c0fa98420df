"""The parts that the tests of several builders share: preparing, comparing, spoiling files."""

import pathlib
import shutil

import numpy as np
from absl.testing import parameterized
from PIL import Image


class BuilderCase(parameterized.TestCase):
    """A test case with a folder of its own; subclasses set `raw` and `records` for the class."""

    raw: pathlib.Path
    records: dict

    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)

    def copy(self) -> pathlib.Path:
        """Returns a copy of the download, to spoil."""
        return pathlib.Path(shutil.copytree(self.raw, self.tmp / "raw"))

    def assert_same_records(self, builder, but=()):
        got = records_by_id(builder)
        assert got.keys() == self.records.keys()
        for image_id, want in self.records.items():
            for name in want.keys() - set(but):
                np.testing.assert_array_equal(got[image_id][name], want[name], err_msg=name)


def prepare(make_builder, data_dir: pathlib.Path, raw_dir: pathlib.Path, config: str = "native"):
    """Prepares a download and returns the builder."""
    builder = make_builder(
        config=config, data_dir=data_dir, raw_dir=str(raw_dir), file_format="array_record"
    )
    builder.download_and_prepare(file_format="array_record")
    return builder


def records_by_id(builder) -> dict[str, dict]:
    """Returns the records of the split "full" by image_id."""
    return {r["image_id"].decode(): r for r in builder.as_data_source("full")}


def cut_short(path: pathlib.Path) -> None:
    """Removes the end of a file."""
    path.write_bytes(path.read_bytes()[:-60])


def save_deep(path: pathlib.Path) -> None:
    """Overwrites a file with a PNG of 16 bits a pixel."""
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(path)
