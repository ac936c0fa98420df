"""A series and X-rays written with pydicom, their masks as DICOM SEG, read back."""

import sys

import numpy as np
import pydicom
import pytest

from jaxlung.predict import ct, dicom_seg, pictures
from tests.predict import dicom_picture_test
from tests.volume import dicom_series as made

SHAPE = made.SLICES, made.ROWS, made.COLUMNS
HU = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
EMPTY = ("PatientID", "PatientName", "PatientSex", "PatientBirthDate", "StudyID", "StudyDate")
EMPTY += ("StudyTime", "AccessionNumber", "ReferringPhysicianName")
RANGES = [[dicom_picture_test.PIXELS.min(), dicom_picture_test.PIXELS.max()], [0, 255]]


def series(folder, orientation="axial", **without):
    axes = made.ORIENTATIONS[orientation]
    datasets = made.series(orientation=axes, step=made.STEP_MM * np.cross(*axes))
    for dataset, hu in zip(datasets, HU, strict=True):
        made.set_pixels(dataset, hu)
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2", "1.2.9"
        for name in EMPTY:
            setattr(dataset, name, "")
        for name in without:
            delattr(dataset, name)
    return made.save(folder, datasets)


class TestWrite:
    @pytest.mark.parametrize("orientation", ["axial", "coronal"])
    def test_each_slice_gets_the_mask_of_its_own_pixels(self, tmp_path, orientation):
        highdicom = pytest.importorskip("highdicom")
        folder = series(tmp_path / "ct", orientation)
        item = ct.read(folder, 10**6)
        masks = {"lung": item.image < -300, "infection": item.image > 500}
        dicom_seg.write(tmp_path / "a.dcm", masks, item, folder)
        seg = highdicom.seg.segread(tmp_path / "a.dcm")
        assert seg.StudyInstanceUID == "1.2"
        assert [seg.get_segment_description(i).segment_label for i in (1, 2)] == list(masks)
        got = seg.get_pixels_by_source_instance([f"1.2.3.{k + 1}" for k in range(len(HU))])
        np.testing.assert_array_equal(got[..., 0], HU < -300)
        np.testing.assert_array_equal(got[..., 1], HU > 500)

    def test_nothing_found_is_a_file_too(self, tmp_path):
        highdicom = pytest.importorskip("highdicom")
        folder = series(tmp_path / "ct")
        item = ct.read(folder, 10**6)
        dicom_seg.write(tmp_path / "a.dcm", {"lung": item.mask > 0}, item, folder)
        seg = highdicom.seg.segread(tmp_path / "a.dcm")
        assert not seg.get_pixels_by_source_instance(["1.2.3.1"]).any()

    def test_a_series_without_its_study_is_named(self, tmp_path):
        pytest.importorskip("highdicom")
        folder = series(tmp_path / "ct", StudyInstanceUID=None)
        item = ct.read(folder, 10**6)
        with pytest.raises(ValueError, match=f"{folder}: no DICOM SEG .*StudyInstanceUID"):
            dicom_seg.write(tmp_path / "a.dcm", {"lung": item.image > 0}, item, folder)
        assert [path.name for path in tmp_path.iterdir()] == ["ct"]

    @pytest.mark.parametrize(
        ("masks", "match"),
        [
            ({}, "got none"),
            ({"heart": np.zeros(HU.shape, bool)}, "by lung, infection, got .* for 'heart'"),
            ({"lung": np.zeros(HU.shape, np.uint8)}, "got .* uint8 for 'lung'"),
            ({"lung": np.zeros(HU.shape[1:], bool)}, r"got \(4, 5\) bool for 'lung'"),
        ],
    )
    def test_refuses_masks_that_do_not_fit(self, tmp_path, masks, match):
        pytest.importorskip("highdicom")
        folder = series(tmp_path / "ct")
        item = ct.read(folder, 10**6)
        with pytest.raises(ValueError, match=match):
            dicom_seg.write(tmp_path / "a.dcm", masks, item, folder)

    def test_without_highdicom_one_sentence_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "highdicom", None)
        with pytest.raises(ValueError, match=r"--dicom_seg: .* pip install 'jaxlung\[dicomseg\]'"):
            dicom_seg.require_highdicom()


class TestWritePicture:
    UPRIGHT = np.random.default_rng(1).random((6, 9)) < 0.4

    def x_ray(self, folder, **changes):
        tags = dict.fromkeys(EMPTY, "") | dict(
            StudyInstanceUID="1.2", SeriesInstanceUID="1.2.5", SeriesNumber=1, InstanceNumber=1
        )
        dataset = dicom_picture_test.make(**(tags | changes))
        dataset.save_as(folder / "x.dcm", enforce_file_format=True)
        return folder / "x.dcm"

    # A head at the bottom, at the left and at the right: the file stores the picture turned.
    @pytest.mark.parametrize("orientation", [["L", "F"], ["R", "H"], ["H", "L"], ["F", "L"]])
    def test_refers_to_the_x_ray_on_its_own_rows_and_columns(self, tmp_path, orientation):
        highdicom = pytest.importorskip("highdicom")
        source = self.x_ray(tmp_path, PatientOrientation=orientation)
        picture = pictures.read(source, 10**6)
        lungs = self.UPRIGHT.T if picture.image.shape == (9, 6) else self.UPRIGHT
        masks = {"lung": lungs, "infection": picture.image > 100}
        dicom_seg.write_picture(tmp_path / "a.dcm", masks, picture, source)
        seg = highdicom.seg.segread(tmp_path / "a.dcm")
        assert seg.StudyInstanceUID == "1.2"
        assert [seg.get_segment_description(i).segment_label for i in (1, 2)] == list(masks)
        got = seg.get_pixels_by_source_instance(["1.2.3"])
        assert got.shape == (1, 6, 9, 2)
        for k, mask in enumerate(masks.values()):
            np.testing.assert_array_equal(got[0, ..., k], pictures.to_stored(mask, picture))
        # What pydicom alone reads: a frame per segment, the greys as they are stored.
        plain = pydicom.dcmread(tmp_path / "a.dcm")
        frames = plain.pixel_array.reshape(-1, 6, 9)
        stored = np.interp(dicom_picture_test.PIXELS, *RANGES).round()
        np.testing.assert_array_equal(frames[1], stored > 100)
        reference = plain.ReferencedSeriesSequence[0]
        assert reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3"

    def test_nothing_found_is_a_file_too(self, tmp_path):
        highdicom = pytest.importorskip("highdicom")
        source = self.x_ray(tmp_path)
        nothing = {"lung": np.zeros((6, 9), bool)}
        dicom_seg.write_picture(tmp_path / "a.dcm", nothing, pictures.read(source, 10**6), source)
        seg = highdicom.seg.segread(tmp_path / "a.dcm")
        assert not seg.get_pixels_by_source_instance(["1.2.3"]).any()

    def test_an_x_ray_without_its_study_is_named(self, tmp_path):
        pytest.importorskip("highdicom")
        dataset = dicom_picture_test.make()
        dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        picture = pictures.read(tmp_path / "x.dcm", 10**6)
        with pytest.raises(ValueError, match=r"x.dcm: no DICOM SEG can be made of it"):
            dicom_seg.write_picture(
                tmp_path / "a.dcm", {"lung": self.UPRIGHT}, picture, tmp_path / "x.dcm"
            )
        assert [path.name for path in tmp_path.iterdir()] == ["x.dcm"]
