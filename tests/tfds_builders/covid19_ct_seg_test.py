"""Tests of the CT builder on phantom trees of both layouts and on tiny damaged ones."""

import gzip
import logging
import pathlib
import shutil
import zipfile
from unittest import mock

import nibabel
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized

from jaxlung.volume import grid as grid_lib
from tfds_builders import url_download
from tfds_builders.covid19_ct_seg import case, covid19_ct_seg_dataset_builder, layout
from tfds_builders.phantoms import covid19_ct_seg

_NUM_CASES = 5
_CASES = (
    "coronacases_001",
    "coronacases_002",
    "coronacases_003",
    "radiopaedia_4_85506_1",
    "radiopaedia_7_85703_0",
)
_CT, _LUNG, _INFECTION, _BOTH = (
    "COVID-19-CT-Seg_20cases",
    "Lung_Mask",
    "Infection_Mask",
    "Lung_and_Infection_Mask",
)
_FIRST = "coronacases_001.nii.gz"


def _prepare(data_dir: pathlib.Path, raw_dir: pathlib.Path):
    builder = covid19_ct_seg_dataset_builder.Builder(
        config="native", data_dir=data_dir, raw_dir=str(raw_dir), file_format="array_record"
    )
    builder.download_and_prepare(file_format="array_record")
    return builder


def _records(builder) -> dict[str, dict]:
    return {r["image_id"].decode(): r for r in builder.as_data_source("full")}


def _canonical(path: pathlib.Path) -> np.ndarray:
    """A file's voxels to superior, posterior, left: nibabel's RAS, turned by hand."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]


def _zip(folder: pathlib.Path, path: pathlib.Path, *, flat: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder if flat else folder.parent).as_posix())


class BuilderTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.made = pathlib.Path(absltest.get_default_test_tmpdir()) / "covid19_ct_seg_test"
        shutil.rmtree(cls.made, ignore_errors=True)
        cls.raw = covid19_ct_seg.write(cls.made / "raw", _NUM_CASES)
        cls.builder = _prepare(cls.made / "prepared", cls.raw)
        cls.records = _records(cls.builder)

    def setUp(self):
        super().setUp()
        self.tmp = pathlib.Path(self.create_tempdir().full_path)

    def _assert_same_records(self, got):
        assert list(got) == list(self.records)
        for case_id, record in self.records.items():
            for name, want in record.items():
                np.testing.assert_array_equal(got[case_id][name], want)

    def test_cases_are_in_the_order_of_their_numbers(self):
        assert tuple(self.records) == _CASES

    @parameterized.parameters(*_CASES)
    def test_voxels_are_the_files_turned_to_superior_posterior_left(self, case_id):
        record = self.records[case_id]
        stored = _canonical(self.raw / _CT / f"{case_id}.nii.gz").astype(np.float64)
        if case_id.startswith("radiopaedia"):
            stored = np.maximum(stored / 255 * 1500 - 1250, -1024)
        np.testing.assert_array_equal(record["ct"], np.rint(stored))
        for name, folder in (("lung_mask", _LUNG), ("infection_mask", _INFECTION)):
            stored = _canonical(self.raw / folder / f"{case_id}.nii.gz")
            np.testing.assert_allclose(record[name], stored, atol=0.01)
            assert record[name].dtype == np.uint8
        assert (record["ct"].dtype, record["spacing_mm"].dtype) == (np.int16, np.float32)

    @parameterized.parameters(*_CASES)
    def test_record_is_what_was_drawn(self, case_id):
        record = self.records[case_id]
        scan, spacing_mm = covid19_ct_seg.make_case(case_id, seed=0)
        np.testing.assert_array_equal(record["lung_mask"], scan.lung_mask)
        np.testing.assert_array_equal(record["infection_mask"], scan.infection_mask)
        np.testing.assert_allclose(record["spacing_mm"], spacing_mm, rtol=1e-6)
        if case_id.startswith("coronacases"):
            np.testing.assert_array_equal(record["ct"], scan.image)
        else:  # Half a level of the window, and rounding.
            inside = np.clip(scan.image, -1024, 250)
            assert np.abs(record["ct"] - inside).max() <= 1500 / 255 / 2 + 1

    def test_left_lung_is_at_higher_columns_and_the_spine_at_higher_rows(self):
        for record in self.records.values():
            lungs, ct = record["lung_mask"], record["ct"]
            columns = [np.nonzero(lungs == label)[2].mean() for label in (1, 2)]
            assert columns[0] > columns[1] + 20
            bone = np.nonzero((ct > 200) & (np.abs(np.indices(ct.shape)[2] - ct.shape[2] / 2) < 8))
            assert bone[1].mean() > np.nonzero(lungs)[1].mean() + 5
            # The lungs' bases are wider than their tips.
            areas = (lungs > 0).sum((1, 2))
            assert areas[: len(areas) // 2].sum() > areas[len(areas) // 2 :].sum()

    def test_file_grid_is_kept_for_the_way_back(self):
        for case_id, orientation in zip(_CASES, ["LPS"] * 3 + ["RAS", "RAI"], strict=True):
            record = self.records[case_id]
            image = nibabel.load(self.raw / _CT / f"{case_id}.nii.gz")
            np.testing.assert_array_equal(record["affine"], image.affine)
            assert tuple(record["shape"]) == image.shape
            assert record["orientation"].decode() == orientation
            grid = grid_lib.Grid(tuple(record["shape"]), record["affine"])
            back = grid_lib.from_canonical(record["lung_mask"], grid)
            stored = nibabel.load(self.raw / _LUNG / f"{case_id}.nii.gz").dataobj
            np.testing.assert_array_equal(back, np.rint(stored))

    def test_sources_intensities_and_people(self):
        sources = self.builder.info.features["label"].names
        for case_id, record in self.records.items():
            source = case_id.split("_")[0]
            assert sources[record["label"]] == source
            want = {"coronacases": b"hu", "radiopaedia": b"windowed"}[source]
            assert record["intensities"] == want
        people = [record["patient_id"].decode() for record in self.records.values()]
        assert people == [*_CASES[:3], "radiopaedia_4", "radiopaedia_7"]

    def test_prepared_folder_opens_without_the_builder(self):
        self._assert_same_records(_records(tfds.builder_from_directory(self.builder.data_dir)))

    def test_kaggle_gives_the_same_records_packed_or_not(self):
        raw = covid19_ct_seg.write(self.tmp / "raw", _NUM_CASES, "kaggle")
        self._assert_same_records(_records(_prepare(self.tmp / "unpacked", raw)))
        _zip(raw, self.tmp / "archive.zip")
        self._assert_same_records(_records(_prepare(self.tmp / "packed", self.tmp / "archive.zip")))

    def test_zips_and_folders_mix(self):
        place = self.tmp / "place"
        for folder in (_CT, _INFECTION):
            _zip(self.raw / folder, place / f"{folder}.zip")
        # Some packers keep the folder, and some people keep what they unpacked.
        _zip(self.raw / _BOTH, place / f"{_BOTH}.zip", flat=False)
        shutil.copytree(self.raw / _LUNG, place / _LUNG / _LUNG)
        _zip(self.raw / _LUNG, place / f"{_LUNG}.zip")
        self._assert_same_records(_records(_prepare(self.tmp / "data", place)))

    def test_mask_of_both_serves_where_it_is_the_only_one(self):
        raw = pathlib.Path(shutil.copytree(self.raw, self.tmp / "raw"))
        shutil.rmtree(raw / _LUNG)
        shutil.rmtree(raw / _INFECTION)
        got = _records(_prepare(self.tmp / "data", raw))
        for case_id, record in self.records.items():
            for name in ("ct", "infection_mask"):
                np.testing.assert_array_equal(got[case_id][name], record[name])
            found, want = got[case_id]["lung_mask"], record["lung_mask"]
            np.testing.assert_array_equal(found > 0, want > 0)
            assert np.mean(found != want) < 1e-3

    def test_a_few_cases_are_told_in_one_warning(self):
        with self.assertLogs("absl", logging.WARNING) as logs:
            layout.find_samples(layout.open_tree(self.raw))
        self.assertLen(logs.output, 1)
        assert f"{_NUM_CASES} CTs, unlike the published 20" in logs.output[0]

    def test_without_a_download_says_where_to_get_it_and_where_to_put_it(self):
        builder = covid19_ct_seg_dataset_builder.Builder(
            config="native", data_dir=self.tmp / "data", file_format="array_record"
        )
        config = tfds.download.DownloadConfig(manual_dir=self.tmp / "manual")
        with pytest.raises(ValueError, match=r"manual does not exist .*zenodo.*kaggle"):
            builder.download_and_prepare(file_format="array_record", download_config=config)


class FetchTest(absltest.TestCase):
    def test_four_zips_of_zenodo_with_their_checksums(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        with mock.patch.object(url_download, "download") as asked:
            got = covid19_ct_seg_dataset_builder.Builder.fetch(folder)
        assert got == folder
        urls = [call.args[0] for call in asked.call_args_list]
        start = "https://zenodo.org/records/3757476/files/"
        assert urls == [f"{start}{x}.zip?download=1" for x in (_CT, _LUNG, _INFECTION, _BOTH)]
        for url, path, sha256 in (call.args for call in asked.call_args_list):
            assert path == folder / url.removeprefix(start).removesuffix("?download=1")
            self.assertLen(bytes.fromhex(sha256), 32)


class CaseTest(parameterized.TestCase):
    """One tiny case, spoilt in turn."""

    def setUp(self):
        super().setUp()
        self.raw = pathlib.Path(self.create_tempdir().full_path)
        np_rng = np.random.default_rng(0)
        self.affine = np.diag([-1.0, -1.0, 2.0, 1.0])
        self.ct = np_rng.integers(-1000, 300, (6, 5, 4)).astype(np.int16)
        self.both = np.zeros((6, 5, 4), np.uint8)
        self.both[4:], self.both[:2] = 1, 2
        self.both[3], self.both[1, 1] = 3, 3
        self.lungs = np.where(self.both == 3, 0, self.both)
        self.lungs[3], self.lungs[1, 1] = 1, 2
        self._save(_CT, self.ct)
        self._save(_LUNG, self.lungs)
        self._save(_INFECTION, (self.both == 3).astype(np.uint8))

    def _save(self, folder, volume, affine=None):
        (self.raw / folder).mkdir(exist_ok=True)
        image = nibabel.Nifti1Image(volume, self.affine if affine is None else affine)
        nibabel.save(image, self.raw / folder / _FIRST)

    def _example(self):
        tree = layout.open_tree(self.raw)
        (sample,) = layout.find_samples(tree)
        return case.make_example(tree, sample)

    def _assert_refused(self, folder, message):
        with pytest.raises(ValueError, match=message) as caught:
            self._example()
        self.assertStartsWith(str(caught.value), f"{self.raw}: {folder}/{_FIRST}: ")
        assert "\n" not in str(caught.value)

    def test_lps_file_is_only_transposed(self):
        got = self._example()
        np.testing.assert_array_equal(got["ct"], self.ct.transpose(2, 1, 0))
        np.testing.assert_array_equal(got["lung_mask"], self.lungs.transpose(2, 1, 0))
        np.testing.assert_array_equal(got["spacing_mm"], [2, 1, 1])

    def test_labels_are_rounded(self):
        self._save(_LUNG, self.lungs.astype(np.float32) * np.float32(0.99995))
        np.testing.assert_array_equal(self._example()["lung_mask"], self.lungs.transpose(2, 1, 0))

    @parameterized.parameters([(_LUNG,)], [(_INFECTION,)], [(_LUNG, _INFECTION)])
    def test_infected_voxels_are_of_the_nearest_lung(self, lacking):
        want = self._example()
        for folder in lacking:
            shutil.rmtree(self.raw / folder)
        self._save(_BOTH, self.both)
        got = self._example()
        for name in ("lung_mask", "infection_mask"):
            np.testing.assert_array_equal(got[name], want[name])

    def test_nearest_is_in_millimetres_and_not_in_voxels(self):
        labels = np.zeros((5, 5, 1), np.uint8)
        labels[0, 0], labels[0, 3], labels[2, 0] = 3, 1, 2
        near = grid_lib.Grid(labels.shape, np.diag([9.0, 1, 1, 1]))
        assert case.with_sides(labels, near, "x")[0, 0, 0] == 1
        far = grid_lib.Grid(labels.shape, np.diag([1.0, 9, 1, 1]))
        assert case.with_sides(labels, far, "x")[0, 0, 0] == 2

    def test_infection_without_a_lung_is_refused(self):
        shutil.rmtree(self.raw / _LUNG)
        self._save(_BOTH, np.where(self.both == 3, self.both, 0))
        self._assert_refused(_BOTH, "want labels 1 and 2 for the lungs, got infection .3. alone")

    @parameterized.parameters(
        (_LUNG, 3.0, "want labels from 0 to 2, got 3 .1 of 120 voxels"),
        (_LUNG, 1.5, "want labels from 0 to 2, got 1.5"),
        (_LUNG, -1.0, "want labels from 0 to 2, got -1"),
        (_INFECTION, 2.0, "want labels from 0 to 1, got 2"),
        (_INFECTION, np.nan, "NaN"),
        (_CT, np.nan, "NaN"),
    )
    def test_voxels_that_can_not_be_are_refused(self, folder, value, message):
        volume = {_CT: self.ct, _LUNG: self.lungs, _INFECTION: self.both == 3}[folder]
        volume = volume.astype(np.float32)
        volume[0, 0, 0] = value
        self._save(folder, volume)
        self._assert_refused(folder, message)

    def test_mask_on_another_grid_names_both_files(self):
        moved = self.affine.copy()
        moved[0, 3] = 0.5
        for volume, affine in ((self.lungs[1:], self.affine), (self.lungs, moved)):
            self._save(_LUNG, volume, affine)
            self._assert_refused(_LUNG, f"want the grid of .*{_CT}/{_FIRST}")

    def test_rounding_of_an_affine_is_no_other_grid(self):
        self._save(_LUNG, self.lungs, self.affine + 1e-6 * (np.indices((4, 4))[0] < 3))
        assert self._example()["lung_mask"].any()

    @parameterized.parameters(_CT, _LUNG, _INFECTION)
    def test_truncated_file_is_named(self, folder):
        path = self.raw / folder / _FIRST
        whole = path.read_bytes()
        for content in (whole[:-20], gzip.compress(gzip.decompress(whole)[:-9]), b""):
            path.write_bytes(content)
            self._assert_refused(folder, "truncated|0 bytes")

    def test_the_builder_tells_it_too(self):
        self._save(_LUNG, self.lungs + np.uint8(1))
        with pytest.raises(ValueError, match="want labels from 0 to 2, got 3"):
            _prepare(self.raw / "data", self.raw)

    def test_values_that_do_not_look_like_ct_are_told(self):
        self._save(_CT, np.abs(self.ct) + np.int16(300))
        with self.assertLogs("absl", logging.WARNING) as logs:
            self._example()
        assert any(f"{_CT}/{_FIRST}: values from" in line for line in logs.output)


if __name__ == "__main__":
    absltest.main()
