"""Tests of the Montgomery builder on phantoms with names and defects of real copies."""

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
from PIL import Image, ImageChops
from scipy import ndimage

from tests.tfds_builders import builder_case
from tfds_builders import png, raw_tree, url_download
from tfds_builders.montgomery_cxr import layout, montgomery_cxr_dataset_builder
from tfds_builders.phantoms import montgomery_cxr

_NUM_IMAGES = 14
_SIZE = 40

_prepare = functools.partial(builder_case.prepare, montgomery_cxr_dataset_builder.Builder)


def _pixels(path: pathlib.Path) -> np.ndarray:
    """As stored; bits as 0 and 1."""
    return np.asarray(Image.open(io.BytesIO(path.read_bytes()))).astype(np.uint8)


def _zip(root: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def _shrink(path: pathlib.Path) -> None:
    Image.new("1", (8, 12)).save(path)


def _as_bundle(data: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """Both datasets in one folder, left and right masks joined."""
    root.mkdir(parents=True)
    shutil.copytree(data / "CXR_png", root / "CXR_png")
    shutil.copytree(data / "ClinicalReadings", root / "ClinicalReadings")
    (root / "masks").mkdir()
    (root / "test").mkdir()
    for left in (data / "ManualMask/leftMask").glob("*.png"):
        right = data / "ManualMask/rightMask" / left.name
        both = ImageChops.lighter(*(Image.open(x).convert("L") for x in (left, right)))
        both.save(root / "masks" / left.name)
    for name in ("CXR_png/CHNCXR_0001_0.png", "masks/CHNCXR_0001_0_mask.png"):
        Image.new("L", (9, 9)).save(root / name)
    shutil.copy(root / "CXR_png/MCUCXR_0001_0.png", root / "test")
    return root


class BuilderTest(builder_case.BuilderCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(absltest.get_default_test_tmpdir()) / "montgomery_cxr_test"
        shutil.rmtree(cls.made, ignore_errors=True)
        cls.raw = montgomery_cxr.write(cls.made / "raw", _NUM_IMAGES, image_size=_SIZE)
        cls.builder = _prepare(cls.made / "prepared", cls.raw)
        cls.records = builder_case.records_by_id(cls.builder)

    def test_every_record_holds_its_files(self):
        data = self.raw / "MontgomerySet"
        assert sorted(self.records) == sorted(x.stem for x in data.glob("CXR_png/*.png"))
        self.assertLen(self.records, _NUM_IMAGES)
        for stem, record in self.records.items():
            image = _pixels(data / f"CXR_png/{stem}.png")
            left = _pixels(data / f"ManualMask/leftMask/{stem}.png")
            right = _pixels(data / f"ManualMask/rightMask/{stem}.png")
            np.testing.assert_array_equal(record["image"][..., 0], image)
            np.testing.assert_array_equal(record["lung_mask"][..., 0], 255 * (left | right))
            assert (record["native_height"], record["native_width"]) == image.shape
            text = (data / f"ClinicalReadings/{stem}.txt").read_bytes()
            assert record["reading"] == text
            assert record["sex"] == text.split()[2]
            assert record["age_years"] == int(text.split()[5][:3])
            label = self.builder.info.features["label"].names[record["label"]]
            assert label == {"0": "normal", "1": "tuberculosis"}[stem[-1]]

    def test_images_of_one_person_share_an_id_and_no_others_do(self):
        people = {}
        for stem, record in self.records.items():
            people.setdefault(record["patient_id"].decode(), set()).add(stem)
        shared = {person: stems for person, stems in people.items() if len(stems) > 1}
        assert shared == {
            "MCUCXR_0113": {"MCUCXR_0113_1", "MCUCXR_0117_1"},
            "MCUCXR_0162": {"MCUCXR_0162_1", "MCUCXR_0166_1", "MCUCXR_0170_1"},
        }
        assert people["MCUCXR_0001"] == {"MCUCXR_0001_0"}

    def test_prepared_folder_opens_without_the_builder(self):
        self.assert_same_records(tfds.builder_from_directory(self.builder.data_dir))

    @parameterized.parameters("NLM-MontgomeryCXRSet.zip", "archive.zip")
    def test_zip_gives_the_records_of_the_folder(self, name):
        path = _zip(self.raw, self.tmp / "place" / name)
        # The zip itself, or the folder that holds it.
        raw_dir = path if name == "archive.zip" else path.parent
        self.assert_same_records(_prepare(self.tmp / "data", raw_dir))

    @parameterized.parameters(
        "Montgomery/MontgomerySet", "Montgomery-County-CXR-Set/MontgomerySet", "any name"
    )
    def test_other_parents_give_the_same_records(self, parents):
        shutil.copytree(self.raw / "MontgomerySet", self.tmp / "raw" / parents)
        self.assert_same_records(_prepare(self.tmp / "data", self.tmp / "raw"))

    @parameterized.parameters("Lung Segmentation", "data/Lung Segmentation")
    def test_bundle_with_joined_masks_gives_the_same_records(self, parents):
        _as_bundle(self.raw / "MontgomerySet", self.tmp / "raw" / parents)
        self.assert_same_records(_prepare(self.tmp / "data", self.tmp / "raw"))

    def test_bundle_that_holds_itself_counts_once(self):
        for parents in ("Lung Segmentation", "data/Lung Segmentation"):
            _as_bundle(self.raw / "MontgomerySet", self.tmp / "raw" / parents)
        self.assert_same_records(_prepare(self.tmp / "data", self.tmp / "raw"))

    def test_stray_files_are_passed_over(self):
        raw = self.copy()
        for folder in raw.glob("MontgomerySet/**/"):
            for name in ("._MCUCXR_0001_0.png", ".DS_Store", "MCUCXR_0001_0.png.bak", "x.png"):
                (folder / name).write_text("stray")
        (raw / "MontgomerySet" / "montgomery_consensus_roi.csv").write_text("stray")
        self.assert_same_records(_prepare(self.tmp / "data", raw))

    def test_an_image_without_a_reading_is_no_error(self):
        raw = self.copy()
        (raw / "MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt").unlink()
        record = builder_case.records_by_id(_prepare(self.tmp / "data", raw))["MCUCXR_0001_0"]
        assert (record["reading"], record["sex"]) == (b"", b"")
        assert np.isnan(record["age_years"])

    @parameterized.parameters("512", "1024")
    def test_size_is_limited_and_never_enlarged(self, config):
        longest_side = int(config)
        raw = self.copy()
        data = raw / "MontgomerySet"
        for kind in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
            path = data / kind / "MCUCXR_0002_0.png"
            image = Image.open(io.BytesIO(path.read_bytes()))
            image.resize((1262, 1536), Image.Resampling.NEAREST).save(path)
        records = builder_case.records_by_id(_prepare(self.tmp / "data", raw, config))
        got = records.pop("MCUCXR_0002_0")
        assert (got["native_height"], got["native_width"]) == (1536, 1262)
        assert got["image"].shape == (longest_side, round(1262 / 1536 * longest_side), 1)
        assert got["lung_mask"].shape == got["image"].shape
        assert set(np.unique(got["lung_mask"])) == {0, 255}
        for stem, record in records.items():
            np.testing.assert_array_equal(record["image"], self.records[stem]["image"])

    @parameterized.parameters(
        ("CXR_png", builder_case.cut_short, "can't be decoded"),
        ("CXR_png", builder_case.save_deep, "want 8 bits a channel"),
        ("ManualMask/leftMask", builder_case.cut_short, "can't be decoded"),
        ("ManualMask/rightMask", _shrink, r"want its image's \d+ x \d+ pixels, got 8 x 12"),
    )
    def test_damaged_file_is_named(self, folder, spoil, reason):
        raw = self.copy()
        spoil(raw / "MontgomerySet" / folder / "MCUCXR_0001_0.png")
        with pytest.raises(ValueError, match=reason) as caught:
            _prepare(self.tmp / "data", raw)
        self.assertStartsWith(str(caught.value), str(raw))
        assert f"{folder}/MCUCXR_0001_0.png" in str(caught.value)
        assert "\n" not in str(caught.value)

    @parameterized.parameters(
        (["ManualMask/leftMask"], "CXR_png/MCUCXR_0001_0.png has no left mask"),
        (["ManualMask/rightMask"], "CXR_png/MCUCXR_0001_0.png has no right mask"),
        (["ManualMask/leftMask", "ManualMask/rightMask"], "0001_0.png has no lung mask"),
        (["CXR_png"], "leftMask/MCUCXR_0001_0.png is a mask without an image"),
        (["CXR_png", "ManualMask/leftMask"], "rightMask/MCUCXR_0001_0.png is a mask without"),
    )
    def test_incomplete_image_is_named(self, folders, message):
        raw = self.copy()
        for folder in folders:
            (raw / "MontgomerySet" / folder / "MCUCXR_0001_0.png").unlink()
        with pytest.raises(ValueError, match=message):
            _prepare(self.tmp / "data", raw)

    def test_same_file_twice_is_an_error(self):
        raw = self.copy()
        shutil.copytree(raw / "MontgomerySet", raw / "copy")
        with pytest.raises(ValueError, match=r"the same file twice, Mont.* and copy/.*_0\.png"):
            _prepare(self.tmp / "data", raw)

    def test_masks_on_the_wrong_side_give_one_warning_and_the_same_records(self):
        raw = self.copy()
        masks = raw / "MontgomerySet" / "ManualMask"
        (masks / "leftMask").rename(masks / "aside")
        (masks / "rightMask").rename(masks / "leftMask")
        (masks / "aside").rename(masks / "rightMask")
        with self.assertLogs("absl", logging.WARNING) as logs:
            builder = _prepare(self.tmp / "data", raw)
        told = [line for line in logs.output if "14 of 14 left masks" in line]
        self.assertLen(told, 1)
        assert "MCUCXR_0001_0.png" in told[0]
        self.assert_same_records(builder)

    def test_masks_on_their_side_or_empty_give_no_warning(self):
        raw = self.copy()
        path = raw / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png"
        Image.new("1", Image.open(io.BytesIO(path.read_bytes())).size).save(path)
        with self.assertLogs("absl", logging.WARNING) as logs:
            _prepare(self.tmp / "data", raw)
        self.assertEmpty([line for line in logs.output if "left masks" in line])

    def test_another_dataset_is_told_apart(self):
        (self.tmp / "raw" / "CXR_png").mkdir(parents=True)
        (self.tmp / "raw" / "CXR_png" / "CHNCXR_0001_0.png").write_bytes(b"")
        with pytest.raises(ValueError, match=r"want the Montgomery X-rays .*CHNCXR_0001_0"):
            _prepare(self.tmp / "data", self.tmp / "raw")

    def test_without_a_download_says_where_to_get_it_and_where_to_put_it(self):
        builder = montgomery_cxr_dataset_builder.Builder(
            config="512", data_dir=self.tmp / "data", file_format="array_record"
        )
        config = tfds.download.DownloadConfig(manual_dir=self.tmp / "manual")
        with pytest.raises(ValueError, match=r"manual does not exist .*openi\.nlm\.nih\.gov"):
            builder.download_and_prepare(file_format="array_record", download_config=config)

    def test_fetch_downloads_the_zip_of_the_known_checksum(self):
        with mock.patch.object(url_download, "download") as download:
            got = montgomery_cxr_dataset_builder.Builder.fetch(self.tmp)
        assert got == self.tmp / "NLM-MontgomeryCXRSet.zip"
        ((url, path, sha256), _) = download.call_args
        assert url.endswith("/NLM-MontgomeryCXRSet.zip")
        assert path == got
        self.assertLen(bytes.fromhex(sha256), 32)


class CountsTest(absltest.TestCase):
    def _tree(self, numbers: tuple[int, int]) -> raw_tree.RawTree:
        """Names only."""
        stems = [f"MCUCXR_{n:04}_{label}" for label in (0, 1) for n in range(numbers[label])]
        folders = ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask")
        names = [f"{folder}/{stem}.png" for folder in folders for stem in stems]
        return raw_tree.RawTree("here", names, lambda name: b"")

    def test_published_numbers_give_no_warning(self):
        with self.assertNoLogs("absl", logging.WARNING):
            layout.find_samples(self._tree((80, 58)))

    def test_one_warning_has_both_numbers(self):
        with self.assertLogs("absl", logging.WARNING) as logs:
            layout.find_samples(self._tree((80, 57)))
        self.assertLen(logs.output, 1)
        assert "137 X-rays, unlike the published 138" in logs.output[0]


class ShrinkTest(parameterized.TestCase):
    @parameterized.parameters((40, 80, 20), (60, 32, 15), (48, 48, 16))
    def test_whole_factors_average_boxes(self, height, width, longest_side):
        mask = np.random.default_rng(0).random((height, width)) > 0.5
        factor = max(height, width) // longest_side
        boxes = mask.reshape(height // factor, factor, width // factor, factor)
        want = 255 * (boxes.mean((1, 3)) > 0.5)
        got = png.shrink_mask(Image.fromarray(mask).convert("L"), longest_side)
        np.testing.assert_array_equal(np.asarray(got), want)

    def test_a_mask_keeps_its_area_and_its_place_beside_its_image(self):
        disc = np.hypot(*(np.mgrid[:301, :247] - np.array([120, 90])[:, None, None])) < 60
        image = Image.fromarray(disc).convert("L")
        mask = np.asarray(png.shrink_mask(image, 75)) > 0
        small = np.asarray(png.shrink(image, 75)).astype(float) / 255
        assert mask.shape == small.shape == (75, 62)
        scale = 75 / 301
        assert mask.sum() == pytest.approx(np.pi * (60 * scale) ** 2, rel=0.02)
        assert small.sum() == pytest.approx(np.pi * (60 * scale) ** 2, rel=0.02)
        np.testing.assert_allclose(
            ndimage.center_of_mass(mask), (np.array([120, 90]) + 0.5) * scale - 0.5, atol=0.2
        )

    def test_fine_stripes_become_grey_not_moire(self):
        stripes = np.tile(np.array([0, 255], np.uint8), (1500, 750))
        got = np.asarray(png.shrink(Image.fromarray(stripes), 512))
        np.testing.assert_allclose(got[4:-4, 4:-4], 127.5, atol=6)

    @parameterized.parameters(None, 30, 512)
    def test_no_larger_image_is_changed(self, longest_side):
        image = Image.new("L", (30, 20))
        assert png.shrink(image, longest_side) is image
        assert png.shrink_mask(image, longest_side) is image

    def test_the_thinnest_image_keeps_a_row(self):
        assert png.shrink(Image.new("L", (5000, 3)), 512).size == (512, 1)


class PhantomTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path) / "raw"

    def test_real_layout_and_formats(self):
        montgomery_cxr.write(self.root, 20, image_size=96)
        data = self.root / "MontgomerySet"
        images = sorted((data / "CXR_png").glob("*.png"))
        self.assertLen(images, 20)
        assert sum(path.stem.endswith("_1") for path in images) == 8
        sizes = set()
        for path in images:
            image = Image.open(io.BytesIO(path.read_bytes()))
            sizes.add(image.size)
            assert image.mode == "L"
            for side in ("leftMask", "rightMask"):
                mask = Image.open(io.BytesIO((data / "ManualMask" / side / path.name).read_bytes()))
                assert (mask.mode, mask.size) == ("1", image.size)
            assert (data / "ClinicalReadings" / f"{path.stem}.txt").is_file()
        assert sizes == {(96, 79), (79, 96)}
        self.assertNotEmpty(list(data.rglob("Thumbs.db")))
        readings = "".join(x.read_text() for x in data.glob("ClinicalReadings/*.txt"))
        assert readings.count("Sex: O") == 1

    def test_each_mask_is_the_lung_on_its_side_of_the_image(self):
        montgomery_cxr.write(self.root, 12, image_size=96)
        masks = self.root / "MontgomerySet" / "ManualMask"
        for path in (masks / "leftMask").glob("*.png"):
            left, right = (_pixels(masks / x / path.name) > 0 for x in ("leftMask", "rightMask"))
            assert not np.any(left & right)
            regions, _ = ndimage.label(left | right)
            for region in (1 + np.argsort(np.bincount(regions.ravel())[1:])[-2:]).tolist():
                inside = regions == region
                assert not np.any(left[inside]) or np.all(left[inside])
            columns = [ndimage.center_of_mass(mask)[1] for mask in (left, right)]
            assert columns[0] < columns[1]

    def test_films_of_one_person_look_alike_and_those_of_two_do_not(self):
        montgomery_cxr.write(self.root, 12, image_size=48)
        data = self.root / "MontgomerySet/CXR_png"
        films = [
            np.asarray(Image.open(data / f"MCUCXR_{n}_1.png").resize((24, 24)), float).ravel()
            for n in ("0113", "0117", "0162", "0166", "0170")
        ]
        alike = np.corrcoef(films)
        assert alike[0, 1] > alike[0, 2:].max()
        assert alike[2:, 2:].min() > alike[2:, :2].max()

    def test_same_arguments_same_bytes_and_another_seed_another(self):
        trees = []
        for name, seed in (("one", 5), ("two", 5), ("three", 6)):
            root = montgomery_cxr.write(self.root / name, 4, image_size=32, seed=seed)
            trees.append({p.name: p.read_bytes() for p in root.rglob("CXR_png/*.png")})
        assert trees[0] == trees[1]
        assert all(trees[0][name] != trees[2][name] for name in trees[0])

    def test_refuses_too_few_images(self):
        with pytest.raises(ValueError, match="at least 2, got 1"):
            montgomery_cxr.write(self.root, 1)


if __name__ == "__main__":
    absltest.main()
