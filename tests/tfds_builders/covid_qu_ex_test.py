"""Tests of the COVID-QU-Ex builder on phantoms with names and defects of real copies."""

import io
import logging
import pathlib
import shutil
import sys
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from tests.tfds_builders import builder_case
from tfds_builders import raw_tree
from tfds_builders.covid_qu_ex import covid_qu_ex_dataset_builder, layout, pixels
from tfds_builders.phantoms import covid_qu_ex

_DATA = "Infection Segmentation Data/Infection Segmentation Data"
_FIRST = "Train/COVID-19/{}/covid_1.png"


def _prepare(data_dir: pathlib.Path, raw_dir: pathlib.Path, config: str = "infection"):
    return builder_case.prepare(covid_qu_ex_dataset_builder.Builder, data_dir, raw_dir, config)


def _records(builder) -> dict[str, list[dict]]:
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


def _pixels(path: pathlib.Path) -> np.ndarray:
    """Grey levels as stored; our RGB phantoms have three equal channels."""
    stored = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    return stored if stored.ndim == 2 else stored[..., 0]


def _zip(root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def _overwrite_with_text(path: pathlib.Path) -> None:
    path.write_text("<html>not found</html>")


def _shrink(path: pathlib.Path) -> None:
    Image.new("L", (8, 12)).save(path)


class BuilderTest(builder_case.BuilderCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(absltest.get_default_test_tmpdir()) / "covid_qu_ex_test"
        shutil.rmtree(cls.made, ignore_errors=True)
        cls.raw = covid_qu_ex.write(cls.made / "raw", 40, image_size=16)
        cls.builder = _prepare(cls.made / "prepared", cls.raw)
        cls.records = _records(cls.builder)

    def test_every_record_holds_the_pixels_of_its_files(self):
        label_names = self.builder.info.features["label"].names
        seen = 0
        for split, records in self.records.items():
            for record in records:
                folder, label, stem = record["image_id"].decode().split("/")
                assert {"train": "Train", "validation": "Val", "test": "Test"}[split] == folder
                assert label_names[record["label"]] == label
                place = self.raw / _DATA / folder / label
                np.testing.assert_array_equal(
                    record["image"][..., 0], _pixels(place / "images" / f"{stem}.png")
                )
                np.testing.assert_array_equal(
                    record["lung_mask"][..., 0], _pixels(place / "lung masks" / f"{stem}.png")
                )
                infection = place / "infection masks" / f"{stem}.png"
                want = _pixels(infection) if infection.exists() else np.zeros((16, 16))
                np.testing.assert_array_equal(record["infection_mask"][..., 0], want)
                seen += 1
        assert seen == len(list(self.raw.rglob("images/*.png")))

    def test_infection_is_found_in_covid_alone(self):
        for records in self.records.values():
            for record in records:
                assert record["infection_mask"].any() == (record["label"] == 0)

    def test_no_image_in_two_splits_nor_twice_in_one(self):
        ids = [record["image_id"] for records in self.records.values() for record in records]
        self.assertLen(set(ids), len(ids))

    def test_prepared_folder_opens_without_the_builder(self):
        read_back = tfds.builder_from_directory(self.builder.data_dir)
        for split, records in self.records.items():
            again = list(read_back.as_data_source(split))
            assert [record["image_id"] for record in again] == [
                record["image_id"] for record in records
            ]

    def _assert_same_records(self, builder):
        for split, records in _records(builder).items():
            for got, want in zip(records, self.records[split], strict=True):
                for name in want:
                    np.testing.assert_array_equal(got[name], want[name])

    @parameterized.parameters("covidqu.zip", "archive.zip", "manual/any name.zip")
    def test_zip_gives_the_records_of_the_folder(self, name):
        path = self.tmp / "place" / name
        path.parent.mkdir(parents=True)
        _zip(self.raw, path)
        # The zip itself, or the folder that holds it.
        raw_dir = path if name == "archive.zip" else path.parent
        self._assert_same_records(_prepare(self.tmp / "data", raw_dir))

    @parameterized.parameters(
        "Infection Segmentation Data",
        "COVID-QU-Ex/Infection_Segmentation_Data",
        "deep/er/Infection Segmentation Data/Infection Segmentation Data",
        "a folder of no known name",
    )
    def test_other_parents_give_the_same_records(self, parents):
        shutil.copytree(self.raw / _DATA, self.tmp / "raw" / parents)
        self._assert_same_records(_prepare(self.tmp / "data", self.tmp / "raw"))

    def test_raw_dir_may_point_inside_the_download(self):
        self._assert_same_records(_prepare(self.tmp / "data", self.raw / _DATA))

    def test_underscores_in_mask_folders(self):
        raw = self.copy()
        for folder in sorted(raw.rglob("* masks")):
            folder.rename(folder.with_name(folder.name.replace(" ", "_")))
        self._assert_same_records(_prepare(self.tmp / "data", raw))

    def test_manual_folder_is_the_default_place(self):
        builder = covid_qu_ex_dataset_builder.Builder(
            config="infection", data_dir=self.tmp / "data", file_format="array_record"
        )
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(manual_dir=self.raw),
        )
        self._assert_same_records(builder)

    def test_each_config_takes_its_own_part(self):
        raw = self.copy()
        lung = raw / "Lung Segmentation Data" / "Lung Segmentation Data"
        for split in layout.SPLITS:
            for label in layout.LABELS:
                source = raw / _DATA / split / label
                for kind in ("images", "lung masks"):
                    (lung / split / label / kind).mkdir(parents=True)
                    first = min((source / kind).glob("*.png"))
                    shutil.copy(first, lung / split / label / kind / "x.png")
        builder = _prepare(self.tmp / "data", raw, "lung")
        assert "infection_mask" not in builder.info.features
        for split, records in _records(builder).items():
            self.assertLen(records, 3, split)
            assert {r["image_id"].decode().split("/")[2] for r in records} == {"x"}
        self._assert_same_records(_prepare(self.tmp / "data", raw))

    @parameterized.parameters("L", "RGB", "RGBA", "P", "LA", "1")
    def test_any_8_bit_mode_reads_as_grey(self, mode):
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        if mode == "1":
            levels = np.where(levels > 127, 255, 0).astype(np.uint8)
        image = Image.fromarray(levels)
        if mode == "P":  # Palette entry i stands for grey 255 - i.
            image = Image.fromarray(255 - levels)
            image.putpalette([255 - i // 3 for i in range(768)])
        path = self.tmp / "x.png"
        (image if mode == "P" else image.convert(mode)).save(path)
        sample = layout.Sample("x", "Normal", "x.png", "x.png", None)
        pngs = pixels.load(raw_tree.open_folder_and_zips(self.tmp), sample)
        got = {name: np.asarray(Image.open(io.BytesIO(png))) for name, png in pngs.items()}
        np.testing.assert_array_equal(got["image"], levels)
        np.testing.assert_array_equal(got["lung_mask"], np.where(levels > 127, 255, 0))
        assert not got["infection_mask"].any()

    def test_stray_files_are_no_images(self):
        raw = self.copy()
        folder = raw / _DATA / "Train/COVID-19/images"
        for name in ("._covid_1.png", ".DS_Store", "notes.txt"):
            (folder / name).write_text("stray")
        self._assert_same_records(_prepare(self.tmp / "data", raw))

    @parameterized.parameters(
        ("images", builder_case.cut_short, "can't be decoded"),
        ("images", _overwrite_with_text, "can't be decoded"),
        ("images", builder_case.save_deep, "want 8 bits a channel"),
        ("lung masks", builder_case.cut_short, "can't be decoded"),
        ("lung masks", _shrink, "want its image's 16 x 16 pixels, got 8 x 12"),
        ("infection masks", _shrink, "want its image's 16 x 16 pixels, got 8 x 12"),
    )
    def test_damaged_file_is_named_and_a_repeat_works(
        self, kind: str, spoil: Callable[[pathlib.Path], None], reason: str
    ):
        raw = self.copy()
        file = raw / _DATA / _FIRST.format(kind)
        good = file.read_bytes()
        spoil(file)
        with pytest.raises(ValueError, match=reason) as caught:
            _prepare(self.tmp / "data", raw)
        self.assertStartsWith(str(caught.value), str(raw))
        assert _FIRST.format(kind) in str(caught.value)
        assert "\n" not in str(caught.value)
        left = list((self.tmp / "data" / "covid_qu_ex" / "infection").iterdir())
        self.assertEmpty(left)
        file.write_bytes(good)
        self._assert_same_records(_prepare(self.tmp / "data", raw))

    @parameterized.parameters(
        ("lung masks", "images/covid_1.png has no lung mask"),
        ("images", "masks/covid_1.png is a mask without an image"),
    )
    def test_half_a_pair_is_named(self, kind, message):
        raw = self.copy()
        (raw / _DATA / _FIRST.format(kind)).unlink()
        with pytest.raises(ValueError, match=message):
            _prepare(self.tmp / "data", raw)

    def test_covid_image_without_infection_mask_is_empty_with_a_warning(self):
        raw = self.copy()
        (raw / _DATA / _FIRST.format("infection masks")).unlink()
        with self.assertLogs("absl", logging.WARNING) as logs:
            builder = _prepare(self.tmp / "data", raw)
        self.assertLen([x for x in logs.output if "1 of 20 COVID-19 images have no inf" in x], 1)
        train = {r["image_id"]: r for r in builder.as_data_source("train")}
        assert not train[b"Train/COVID-19/covid_1"]["infection_mask"].any()

    def test_same_file_twice_is_an_error(self):
        raw = self.copy()
        shutil.copytree(raw / _DATA, raw / "copy" / "Infection Segmentation Data")
        with pytest.raises(ValueError, match="the same file twice"):
            _prepare(self.tmp / "data", raw)

    def test_empty_split_is_named(self):
        raw = self.copy()
        shutil.rmtree(raw / _DATA / "Val")
        with pytest.raises(ValueError, match="split Val of the infection data has no images"):
            _prepare(self.tmp / "data", raw)

    def test_missing_part_is_named(self):
        with pytest.raises(ValueError, match="want the lung data, found only infection"):
            _prepare(self.tmp / "data", self.raw, "lung")

    def test_another_dataset_is_told_apart(self):
        (self.tmp / "raw" / "CXR_png").mkdir(parents=True)
        (self.tmp / "raw" / "CXR_png" / "MCUCXR_0001_0.png").write_bytes(b"")
        message = "want COVID-QU-Ex .*, or a zip of them, found 1 other files .*MCUCXR_0001_0"
        with pytest.raises(ValueError, match=message):
            _prepare(self.tmp / "data", self.tmp / "raw")
        path = _zip(self.tmp / "raw", self.tmp / "other.zip")
        with pytest.raises(ValueError, match=r"other\.zip: want COVID-QU-Ex .*found 1 other"):
            _prepare(self.tmp / "data", path)

    def test_absent_and_empty_places(self):
        with pytest.raises(ValueError, match="nowhere: want a zip or a folder"):
            _prepare(self.tmp / "data", self.tmp / "nowhere")
        (self.tmp / "empty").mkdir()
        with pytest.raises(ValueError, match="found no files"):
            _prepare(self.tmp / "data", self.tmp / "empty")

    def test_without_a_download_says_where_to_get_it_and_where_to_put_it(self):
        builder = covid_qu_ex_dataset_builder.Builder(
            config="infection", data_dir=self.tmp / "data", file_format="array_record"
        )
        manual_dir = self.tmp / "manual"
        with pytest.raises(ValueError, match=r"manual does not exist .*kaggle\.com") as caught:
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
            )
        assert "\n" not in str(caught.value)

    def test_zip_cut_short_is_named(self):
        path = _zip(self.raw, self.tmp / "covidqu.zip")
        builder_case.cut_short(path)
        with pytest.raises(ValueError, match=r"covidqu\.zip: not a whole zip file"):
            _prepare(self.tmp / "data", path)

    def test_file_damaged_within_the_zip_is_named(self):
        path = _zip(self.raw, self.tmp / "covidqu.zip")
        file = self.raw / _DATA / _FIRST.format("images")
        content = path.read_bytes()
        start = content.index(file.read_bytes())
        path.write_bytes(content[: start + 20] + bytes(20) + content[start + 40 :])
        with pytest.raises(ValueError, match=r"covid_1\.png is damaged in the zip"):
            _prepare(self.tmp / "data", path)


class CountsTest(parameterized.TestCase):
    def _tree(self, dropped: int) -> raw_tree.RawTree:
        """Names only: the published numbers of files, less some COVID-19 test images."""
        names = []
        for split, numbers in layout.PUBLISHED["infection"].items():
            for label, number in zip(layout.LABELS, numbers, strict=True):
                less = dropped if (split, label) == ("Test", "COVID-19") else 0
                for kind in ("images", "lung masks", "infection masks"):
                    names += [f"{split}/{label}/{kind}/{i}.png" for i in range(number - less)]
        return raw_tree.RawTree("here", names, lambda name: b"")

    def test_published_numbers_add_up_to_the_published_totals(self):
        totals = {part: sum(map(sum, n.values())) for part, n in layout.PUBLISHED.items()}
        assert totals == {"infection": 5826, "lung": 33920}

    @parameterized.parameters(0, 1, 2)
    def test_1164_to_1166_test_images_are_all_fine(self, dropped):
        with self.assertNoLogs("absl", logging.WARNING):
            layout.find_samples(self._tree(dropped), "infection")

    def test_one_warning_has_both_numbers(self):
        with self.assertLogs("absl", logging.WARNING) as logs:
            layout.find_samples(self._tree(3), "infection")
        self.assertLen(logs.output, 1)
        assert "Test/COVID-19 580 (583)" in logs.output[0]


class ImportTest(absltest.TestCase):
    def test_no_tensorflow(self):
        assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    absltest.main()
