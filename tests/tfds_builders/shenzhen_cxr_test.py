"""Tests of the Shenzhen builder on phantoms with names and defects of real copies."""

import functools
import io
import logging
import pathlib
import shutil
import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from tests.tfds_builders import builder_case
from tfds_builders import kaggle_download, raw_tree, url_download
from tfds_builders.phantoms import shenzhen_cxr
from tfds_builders.shenzhen_cxr import layout, shenzhen_cxr_dataset_builder

_NUM_IMAGES = 21
_SIZE = 40
_FIRST_IMAGE = "ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png"
_FIRST_MASK = "mask/mask/CHNCXR_0001_0_mask.png"

_prepare = functools.partial(builder_case.prepare, shenzhen_cxr_dataset_builder.Builder)


def _open(path: pathlib.Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def _grey(path: pathlib.Path) -> np.ndarray:
    """Grey levels, looked up in the palette by hand."""
    image = _open(path)
    stored = np.asarray(image)
    if image.mode == "P":
        return np.array(image.getpalette(), np.uint8).reshape(-1, 3)[stored, 0]
    return stored if stored.ndim == 2 else stored[..., 0]


def _zip(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Packs a folder with its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder.parent).as_posix())


def _shrink(path: pathlib.Path) -> None:
    Image.new("L", (8, 12)).save(path)


class BuilderTest(builder_case.BuilderCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(absltest.get_default_test_tmpdir()) / "shenzhen_cxr_test"
        shutil.rmtree(cls.made, ignore_errors=True)
        cls.raw = shenzhen_cxr.write(cls.made / "raw", _NUM_IMAGES, image_size=_SIZE)
        cls.builder = _prepare(cls.made / "prepared", cls.raw)
        cls.records = builder_case.records_by_id(cls.builder)

    def test_every_record_holds_its_files(self):
        data = self.raw / "ChinaSet_AllFiles"
        masks = {x.stem.removesuffix("_mask"): x for x in self.raw.glob("mask/mask/*.png")}
        assert self.records.keys() == masks.keys()
        for stem, record in self.records.items():
            image = _grey(data / f"CXR_png/{stem}.png")
            np.testing.assert_array_equal(record["image"][..., 0], image)
            np.testing.assert_array_equal(record["lung_mask"][..., 0], _grey(masks[stem]))
            assert (record["native_height"], record["native_width"]) == image.shape
            text = (data / f"ClinicalReadings/{stem}.txt").read_bytes()
            assert record["reading"].decode().encode("latin-1") == text
            assert record["sex"] == (b"F" if text.startswith(b"fem") else b"M")
            label = self.builder.info.features["label"].names[record["label"]]
            assert label == {"0": "normal", "1": "tuberculosis"}[stem[-1]]

    def test_ages_in_days_and_months_are_years(self):
        numbers = {stem: int(stem.split("_")[1]) for stem in self.records}
        ages = {numbers[stem]: record["age_years"] for stem, record in self.records.items()}
        want = {1: 45, 2: 24, 4: 29, 5: 16 / 12, 6: 64 / 365.25, 7: 42, 8: 38, 9: 51}
        np.testing.assert_allclose([ages[number] for number in want], list(want.values()), 1e-6)

    def test_every_image_is_a_person_whom_no_other_dataset_has(self):
        people = {record["patient_id"].decode() for record in self.records.values()}
        assert people == {stem[: len("CHNCXR_0000")] for stem in self.records}

    def test_images_without_a_mask_are_left_out_and_counted(self):
        with self.assertLogs("absl", logging.INFO) as logs:
            _prepare(self.tmp / "data", self.raw)
        told = [line for line in logs.output if "no lung mask" in line]
        self.assertLen(told, 1)
        assert "INFO" in told[0]
        assert f"3 of {_NUM_IMAGES} X-rays have no lung mask and are left out" in told[0]
        assert {"CHNCXR_0003_0", "CHNCXR_0010_0"}.isdisjoint(self.records)

    def test_prepared_folder_opens_without_the_builder(self):
        self.assert_same_records(tfds.builder_from_directory(self.builder.data_dir))

    @parameterized.product(images_packed=[False, True], masks_packed=[False, True])
    def test_each_download_may_be_packed(self, images_packed, masks_packed):
        place = self.tmp / "place"
        for name, packed in (("ChinaSet_AllFiles", images_packed), ("mask", masks_packed)):
            if packed:
                _zip(self.raw / name, place / f"{name}.zip")
            else:
                shutil.copytree(self.raw / name, place / "unpacked" / name)
        self.assert_same_records(_prepare(self.tmp / "data", place))

    @parameterized.parameters("ChinaSet_AllFiles/ChinaSet_AllFiles", "Shenzhen-Hospital-CXR-Set")
    def test_other_parents_give_the_same_records(self, parents):
        raw = self.tmp / "raw"
        shutil.copytree(self.raw / "ChinaSet_AllFiles", raw / parents)
        shutil.copytree(self.raw / "mask/mask", raw / "shcxr-lung-mask/mask/mask")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    @parameterized.parameters(False, True)
    def test_bundle_of_both_datasets_gives_the_same_records(self, packed):
        bundle = self.tmp / "raw" / "data" / "Lung Segmentation"
        shutil.copytree(self.raw / "ChinaSet_AllFiles", bundle)
        shutil.copytree(self.raw / "mask/mask", bundle / "masks")
        (bundle / "test").mkdir()
        shutil.copy(bundle / "CXR_png/CHNCXR_0003_0.png", bundle / "test")
        for name in ("CXR_png", "masks"):
            Image.new("L", (9, 9)).save(bundle / name / "MCUCXR_0001_0.png")
        raw = self.tmp / "raw"
        if packed:
            raw = self.tmp / "archive.zip"
            _zip(self.tmp / "raw" / "data", raw)
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_stray_files_and_outlines_of_lesions_are_passed_over(self):
        raw = self.copy()
        for folder in raw.glob("**/"):
            for name in ("._CHNCXR_0001_0.png", ".DS_Store", "x.png"):
                (folder / name).write_text("stray")
        for name in ("Annotations", "Annotations-2"):
            (raw / "ChinaSet_AllFiles" / name).mkdir()
            (raw / "ChinaSet_AllFiles" / name / "CHNCXR_0012_1.png").write_text("stray")
            (raw / "ChinaSet_AllFiles" / name / "CHNCXR_0012_1_mask.png").write_text("stray")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_an_image_without_a_reading_is_no_error(self):
        raw = self.copy()
        shutil.rmtree(raw / "ChinaSet_AllFiles/ClinicalReadings")
        for record in builder_case.records_by_id(_prepare(self.tmp / "data", raw)).values():
            assert (record["reading"], record["sex"]) == (b"", b"")
            assert np.isnan(record["age_years"])

    def test_any_level_above_0_is_lung(self):
        raw = self.copy()
        mask = np.asarray(_open(raw / _FIRST_MASK)) // 255
        Image.fromarray(mask).save(raw / _FIRST_MASK)
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_size_is_limited(self):
        raw = self.copy()
        for name in (_FIRST_IMAGE, _FIRST_MASK):
            _open(raw / name).resize((1100, 1000), Image.Resampling.NEAREST).save(raw / name)
        got = builder_case.records_by_id(_prepare(self.tmp / "data", raw, "512"))["CHNCXR_0001_0"]
        assert (got["native_height"], got["native_width"]) == (1000, 1100)
        assert got["image"].shape == got["lung_mask"].shape == (465, 512, 1)

    @parameterized.parameters(
        (_FIRST_IMAGE, builder_case.cut_short, "can't be decoded"),
        (_FIRST_IMAGE, builder_case.save_deep, "want 8 bits a channel"),
        (_FIRST_MASK, builder_case.cut_short, "can't be decoded"),
        (_FIRST_MASK, _shrink, r"want its image's \d+ x \d+ pixels, got 8 x 12"),
    )
    def test_damaged_file_is_named(self, name, spoil, reason):
        raw = self.copy()
        spoil(raw / name)
        with pytest.raises(ValueError, match=reason) as caught:
            _prepare(self.tmp / "data", raw)
        self.assertStartsWith(str(caught.value), f"{raw}: {name}")
        assert "\n" not in str(caught.value)

    def test_mask_without_an_image_is_named(self):
        raw = self.copy()
        (raw / _FIRST_IMAGE).unlink()
        with pytest.raises(ValueError, match=r"CHNCXR_0001_0_mask\.png is a mask without an image"):
            _prepare(self.tmp / "data", raw)

    @parameterized.parameters(
        ("mask", "want the Shenzhen lung masks .*found .*ChinaSet_AllFiles"),
        ("ChinaSet_AllFiles", "want the Shenzhen X-rays .*found .*mask/mask/CHNCXR"),
    )
    def test_a_lacking_download_is_named(self, name, message):
        raw = self.copy()
        shutil.rmtree(raw / name)
        with pytest.raises(ValueError, match=message):
            _prepare(self.tmp / "data", raw)

    def test_another_dataset_is_told_apart(self):
        (self.tmp / "raw" / "CXR_png").mkdir(parents=True)
        (self.tmp / "raw" / "CXR_png" / "MCUCXR_0001_0.png").write_bytes(b"")
        with pytest.raises(ValueError, match=r"want the Shenzhen X-rays .*MCUCXR_0001_0"):
            _prepare(self.tmp / "data", self.tmp / "raw")

    def test_without_a_download_says_where_to_get_both_and_where_to_put_them(self):
        builder = shenzhen_cxr_dataset_builder.Builder(
            config="512", data_dir=self.tmp / "data", file_format="array_record"
        )
        config = tfds.download.DownloadConfig(manual_dir=self.tmp / "manual")
        with pytest.raises(ValueError, match=r"manual does not exist .*openi.*kaggle"):
            builder.download_and_prepare(file_format="array_record", download_config=config)


class FetchTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)
        self.raw = shenzhen_cxr.write(self.tmp / "raw", 6, image_size=_SIZE)
        self.folder = self.tmp / "downloads"

    def _fetch(self, download_masks, content=None):
        def download_images(url, path):
            assert url.endswith("/ChinaSet_AllFiles.zip")
            _zip(self.raw / "ChinaSet_AllFiles", path)
            if content is not None:
                path.write_bytes(content)

        with (
            mock.patch.object(kaggle_download, "download", side_effect=download_masks) as kaggle,
            mock.patch.object(url_download, "download", side_effect=download_images),
        ):
            got = shenzhen_cxr_dataset_builder.Builder.fetch(self.folder)
        kaggle.assert_called_once_with("yoctoman/shcxr-lung-mask", 1, self.folder)
        return got

    def _download_into_cache(self, dataset, version, folder):
        cache = self.tmp / "cache" / str(version)
        shutil.copytree(self.raw / "mask", cache / "mask", dirs_exist_ok=True)
        return cache

    def _download_zip(self, dataset, version, folder):
        _zip(self.raw / "mask", folder / "shcxr-lung-mask.zip")
        return folder

    def test_what_it_gives_can_be_prepared_whichever_package_brought_the_masks(self):
        for download_masks in (self._download_into_cache, self._download_zip):
            shutil.rmtree(self.folder, ignore_errors=True)
            got = [self._fetch(download_masks) for _ in range(2)]  # Again does no harm.
            builder = _prepare(self.tmp / download_masks.__name__, got[1])
            self.assertLen(builder_case.records_by_id(builder), 5)

    def test_something_else_than_a_zip_is_named(self):
        with pytest.raises(ValueError, match=r"ChinaSet_AllFiles\.zip: want a zip, .*remove it"):
            self._fetch(self._download_zip, b"<html>moved</html>")


class CountsTest(absltest.TestCase):
    def _trees(self, num_images: int, num_masks: int) -> list[raw_tree.RawTree]:
        """Names only."""
        stems = [f"CHNCXR_{n:04}_{int(n > 326)}" for n in range(1, num_images + 1)]
        names = [
            [f"CXR_png/{stem}.png" for stem in stems],
            [f"mask/{stem}_mask.png" for stem in stems[:num_masks]],
        ]
        return [raw_tree.RawTree("here", part, lambda name: b"") for part in names]

    def test_published_numbers_give_no_warning(self):
        with self.assertNoLogs("absl", logging.WARNING):
            self.assertLen(layout.find_samples(*self._trees(662, 566)), 566)

    def test_one_warning_has_all_numbers(self):
        for numbers in ((662, 565), (660, 566)):
            with self.assertLogs("absl", logging.WARNING) as logs:
                layout.find_samples(*self._trees(*numbers))
            self.assertLen(logs.output, 1)
            want = "{} X-rays and {} lung masks, unlike the published 662 and 566"
            assert want.format(*numbers) in logs.output[0]


class PhantomTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "raw"

    def test_real_layout_and_formats(self):
        shenzhen_cxr.write(self.root, 28, image_size=64)
        data, masks = self.root / "ChinaSet_AllFiles", self.root / "mask" / "mask"
        images = {path.stem: _open(path) for path in data.glob("CXR_png/*.png")}
        self.assertLen(images, 28)
        assert sum(stem.endswith("_1") for stem in images) == 14
        modes = [image.mode for image in images.values()]
        assert set(modes) == {"P", "RGB"}
        assert modes.count("P") > 20
        assert len({image.size for image in images.values()}) > 20
        assert max(max(image.size) for image in images.values()) <= 64
        assert sum(image.width != image.height for image in images.values()) > 20
        self.assertLen(list(masks.glob("*.png")), 24)
        for path in masks.glob("*.png"):
            mask = _open(path)
            assert (mask.mode, mask.size) == ("L", images[path.stem.removesuffix("_mask")].size)
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        readings = {x.stem: x.read_bytes() for x in data.glob("ClinicalReadings/*.txt")}
        assert readings.keys() == images.keys()
        with pytest.raises(UnicodeDecodeError):
            b"".join(readings.values()).decode()

    def test_palette_index_is_not_the_grey_level(self):
        shenzhen_cxr.write(self.root, 2, image_size=64)
        path = self.root / _FIRST_IMAGE
        indices, grey = np.asarray(_open(path)).ravel(), _grey(path).ravel()
        assert np.corrcoef(indices, grey)[0, 1] < -0.9

    def test_same_arguments_same_bytes_and_another_seed_another(self):
        trees = []
        for name, seed in (("one", 5), ("two", 5), ("three", 6)):
            root = shenzhen_cxr.write(self.root / name, 4, image_size=32, seed=seed)
            trees.append({p.name: p.read_bytes() for p in root.rglob("CXR_png/*.png")})
        assert trees[0] == trees[1]
        assert all(trees[0][name] != trees[2][name] for name in trees[0])

    def test_smallest_size_and_number(self):
        shenzhen_cxr.write(self.root, 2, image_size=24)
        with pytest.raises(ValueError, match="at least 2, got 1"):
            shenzhen_cxr.write(self.root.with_name("one"), 1)


if __name__ == "__main__":
    absltest.main()
