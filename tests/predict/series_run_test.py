"""A DICOM series and its NIfTI through the whole command: one mask, as NIfTI and as DICOM SEG."""

import csv

import nibabel
import numpy as np
import pydicom
import pytest

from jaxlung.predict import network, runner, settings
from tests import volume_source
from tests.predict import networks
from tests.volume import dicom_series

SLICES, ROWS, COLUMNS = 7, 20, 18
HU = volume_source.VolumeSource([(SLICES, ROWS, COLUMNS)])[0].image
# What a SEG repeats of its series; most may be empty.
STUDY = dict(StudyInstanceUID="1.2", FrameOfReferenceUID="1.2.9", PatientID="4711")
EMPTY = ("PatientName", "PatientSex", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime")
STUDY |= dict.fromkeys((*EMPTY, "AccessionNumber", "ReferringPhysicianName"), "")


@pytest.fixture(scope="module")
def ct_network(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return network.load(networks.save_run(path, networks.make_config("ct_lung")))


@pytest.fixture
def run(ct_network, monkeypatch, tmp_path):
    monkeypatch.setattr(network, "load_all", lambda paths, mirror: [ct_network])

    def run(**options):
        wanted = settings.Options(tmp_path / "out", **options)
        return runner.run(["ct"], str(tmp_path / "in"), wanted)

    (tmp_path / "in").mkdir()
    return run


def write_series(folder, **tags):
    datasets = [dicom_series.make_slice(k) for k in range(SLICES)]
    for dataset, hu in zip(datasets, HU, strict=True):
        dicom_series.set_pixels(dataset, hu)
        for name, value in tags.items():
            setattr(dataset, name, value)
    dicom_series.save(folder, datasets, [f"{(3 * k) % SLICES}" for k in range(SLICES)])


def write_nifti(path, axes):
    """The same voxels in the same place, by nibabel, with axes that grow to `axes`."""
    spacing = dicom_series.BETWEEN_COLUMNS_MM, dicom_series.BETWEEN_ROWS_MM, dicom_series.STEP_MM
    to_ras = np.array([-1, -1, 1])
    affine = np.diag([*(to_ras * spacing), 1.0])
    affine[:3, 3] = to_ras * dicom_series.CORNER
    image = nibabel.Nifti1Image(HU.transpose(2, 1, 0), affine)
    wanted = nibabel.orientations.axcodes2ornt(axes)
    now = nibabel.io_orientation(affine)
    image.as_reoriented(nibabel.orientations.ornt_transform(now, wanted)).to_filename(path)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_series_and_its_nifti_give_one_mask_and_one_row(run, tmp_path):
    write_series(tmp_path / "in/series")
    write_nifti(tmp_path / "in/lps.nii.gz", "LPS")
    write_nifti(tmp_path / "in/sar.nii", "SAR")
    assert run(probs=True) == 0
    rows = {row["name"]: row for row in read(tmp_path / "out/predictions.csv")}
    assert sorted(rows) == ["lps", "sar", "series"]
    for ending in ("", "_probs"):
        found = {
            name: nibabel.as_closest_canonical(
                nibabel.load(tmp_path / f"out/{name}{ending}.nii.gz")
            )
            for name in rows
        }
        want = np.asarray(found["series"].dataobj)
        assert 0 < np.mean(want > 0.5) <= 1
        for each in found.values():
            np.testing.assert_array_equal(np.asarray(each.dataobj), want)
            np.testing.assert_allclose(each.affine, found["series"].affine, atol=1e-4)
    volume_ml = 0.001 * 0.625 * 0.75 * 2.5
    mask = nibabel.load(tmp_path / "out/series.nii.gz")
    num_lung = np.count_nonzero(np.asarray(mask.dataobj))
    for row in rows.values():
        np.testing.assert_allclose(float(row["lung_volume_ml"]), num_lung * volume_ml, rtol=1e-4)
        for name in ("confidence", "entropy_bits", "right_lung_volume_ml"):
            assert row[name] == rows["series"][name]


def test_dicom_seg_has_the_mask_on_the_slices_and_nifti_gets_none(run, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    write_series(tmp_path / "in/series", **STUDY)
    write_nifti(tmp_path / "in/a.nii", "LPS")
    assert run(dicom_seg=True) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.dcm")] == ["series.seg.dcm"]
    mask = np.asarray(nibabel.load(tmp_path / "out/series.nii.gz").dataobj)
    seg = highdicom.seg.segread(tmp_path / "out/series.seg.dcm")
    by_slice = seg.get_pixels_by_source_instance([f"1.2.3.{k + 1}" for k in range(SLICES)])
    assert by_slice.any()
    np.testing.assert_array_equal(by_slice[..., 0], mask.transpose(2, 1, 0))
    # Without highdicom's reading: frames, and what they say of their place.
    plain = pydicom.dcmread(tmp_path / "out/series.seg.dcm")
    frames = plain.pixel_array.reshape(-1, ROWS, COLUMNS)
    for frame, place in zip(frames, plain.PerFrameFunctionalGroupsSequence, strict=True):
        position = place.PlanePositionSequence[0].ImagePositionPatient
        k = round((position[2] - dicom_series.CORNER[2]) / dicom_series.STEP_MM)
        np.testing.assert_array_equal(frame, mask[..., k].T)


def test_rtstruct_has_the_mask_of_a_series_and_nifti_gets_none(run, tmp_path):
    write_series(tmp_path / "in/series", **STUDY)
    write_nifti(tmp_path / "in/a.nii", "LPS")
    assert run(rtstruct=True) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.dcm")] == ["series.rtstruct.dcm"]
    mask = np.asarray(nibabel.load(tmp_path / "out/series.nii.gz").dataobj) > 0
    dataset = pydicom.dcmread(tmp_path / "out/series.rtstruct.dcm")
    slices = {
        float(contour.ContourData[2]) for contour in dataset.ROIContourSequence[0].ContourSequence
    }
    assert len(slices) == np.count_nonzero(mask.any(axis=(0, 1)))


def test_a_series_that_no_seg_can_be_made_of_fails_and_leaves_nothing(run, tmp_path):
    pytest.importorskip("highdicom")
    write_series(tmp_path / "in/bare")
    write_nifti(tmp_path / "in/a.nii", "LPS")
    assert run(dicom_seg=True, probs=True, overlay=True) == runner.SOME_FAILED
    (failed,) = read(tmp_path / "out/failures.csv")
    assert failed["name"] == "bare"
    assert "no DICOM SEG can be made of it" in failed["reason"]
    assert not list((tmp_path / "out").glob("bare*"))
    assert [row["name"] for row in read(tmp_path / "out/predictions.csv")] == ["a"]


def test_a_folder_without_dicom_seg_is_not_gone_on_with_for_it(run, tmp_path):
    pytest.importorskip("highdicom")
    write_nifti(tmp_path / "in/a.nii", "LPS")
    assert run() == 0
    options = settings.Options(tmp_path / "out", dicom_seg=True)
    with pytest.raises(ValueError, match=r"another command \(dicom_seg differ\)"):
        runner.run(["ct"], str(tmp_path / "in"), options, resume=True)
