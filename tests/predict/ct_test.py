"""One computed CT, written as NIfTI by nibabel and as DICOM by pydicom, reads the same."""

import concurrent.futures
import gzip
import logging
import pathlib
import struct
import tracemalloc

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import uid

from jaxlung.predict import ct

REALDATA = pathlib.Path(__file__).parents[3] / "shared/realdata"
SLICES, ROWS, COLUMNS = 4, 6, 5
SPACING_MM = (2.5, 0.75, 0.625)  # between slices, rows, columns
CORNER = np.array([-120.5, -90.25, -400.0])  # LPS mm of the lowest slice's first pixel
# Air, lung, water and bone; above 3071 and below -1024 HU, where the scale is cut.
STORED = np.linspace(-1500, 3500, SLICES * ROWS * COLUMNS).astype(np.int16)
STORED = np.random.default_rng(0).permutation(STORED).reshape(SLICES, ROWS, COLUMNS)
HU = np.clip(STORED, -1024, 3071)
LIMIT = 10**9
DIM, DATATYPE, BITPIX, VOX_OFFSET = 40, 70, 72, 108  # where NIfTI-1 has them


def slice_of(k, syntax=uid.ExplicitVRLittleEndian):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{k + 1}"
    dataset.Modality, dataset.SeriesInstanceUID = "CT", "1.2.3"
    dataset.PatientID, dataset.PatientName = "4711", "Doe^Jane"
    dataset.ImagePositionPatient = [*CORNER[:2], CORNER[2] + k * SPACING_MM[0]]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = list(SPACING_MM[1:])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1500"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = (STORED[k].astype(np.int32) + 1500).astype(np.uint16).tobytes()
    return dataset


def series(folder, syntax=uid.ExplicitVRLittleEndian):
    """A folder whose files' names say nothing about the order."""
    folder.mkdir()
    for k in range(SLICES):
        slice_of(k, syntax).save_as(folder / f"{(3 * k + 1) % 5}", enforce_file_format=True)
    return folder


def nifti_of(axes):
    """The CT as an image of nibabel's, its axes growing to `axes`."""
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1])
    affine[:3, 3] = CORNER * (-1, -1, 1)
    image = nibabel.Nifti1Image(STORED.transpose(2, 1, 0), affine)
    transform = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    return image.as_reoriented(transform)


def nifti_bytes(array, zipped=False):
    content = nibabel.Nifti1Image(array, np.eye(4)).to_bytes()
    return gzip.compress(content) if zipped else content


def patched(content, offset, form, *values):
    content = bytearray(content)
    struct.pack_into(form, content, offset, *values)
    return bytes(content)


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(path, match, max_voxels=LIMIT):
    """The one sentence that names the file."""
    with pytest.raises(ValueError, match=match) as caught:
        ct.read(path, max_voxels)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


class TestRead:
    @pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "ARI"])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_nifti_in_any_order_of_axes_is_one_volume(self, tmp_path, axes, suffix):
        nifti_of(axes).to_filename(tmp_path / f"case.7{suffix}")
        got = ct.read(tmp_path / f"case.7{suffix}", LIMIT)
        assert got.image.dtype == np.int16
        np.testing.assert_array_equal(got.image, HU)
        np.testing.assert_allclose(got.spacing_mm, SPACING_MM, rtol=1e-6)
        assert got.mask.dtype == np.uint8
        assert got.mask.shape == HU.shape
        assert not got.mask.any()
        assert got.image_id == got.patient_id == "case.7"

    @pytest.mark.parametrize(
        "syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]
    )
    def test_series_is_the_same_volume_without_the_name_of_a_person(self, tmp_path, syntax):
        got = ct.read(series(tmp_path / "scan", syntax), LIMIT)
        np.testing.assert_array_equal(got.image, HU)
        np.testing.assert_allclose(got.spacing_mm, SPACING_MM)
        assert (got.image_id, got.patient_id, got.group) == ("scan", "scan", "")

    def test_suffix_says_nothing(self, tmp_path):
        nifti_of("LPS").to_filename(tmp_path / "a.nii")
        (tmp_path / "scan").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
        np.testing.assert_array_equal(ct.read(tmp_path / "scan", LIMIT).image, HU)

    def test_values_that_are_hardly_hu_are_warned_of(self, tmp_path, caplog):
        grey = np.arange(240, dtype=np.uint8).reshape(4, 6, 10)
        (tmp_path / "a.nii").write_bytes(nifti_bytes(grey))
        with caplog.at_level(logging.WARNING):
            ct.read(tmp_path / "a.nii", LIMIT)
        values, place = caplog.messages
        assert f"{tmp_path}/a.nii: values from 0 to 239: not HU" in values
        assert f"{tmp_path}/a.nii: its affine is the identity" in place

    def test_labels_are_no_ct(self, tmp_path):
        labels = np.arange(60).reshape(3, 4, 5) % 4
        (tmp_path / "a.nii").write_bytes(nifti_bytes(labels.astype(np.uint8)))
        refused(tmp_path / "a.nii", "want a CT in Hounsfield units, .* from 0 to 3")

    def test_slices_that_are_no_hu_likewise(self, tmp_path):
        folder = series(tmp_path / "a")
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.RescaleSlope = "0"
            dataset.save_as(path)
        refused(folder, "from -1500 to -1500")

    def test_threads_may_read_series_at_once(self, tmp_path):
        folders = [series(tmp_path / f"{i}") for i in range(6)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for got in pool.map(lambda folder: ct.read(folder, LIMIT), folders):
                np.testing.assert_array_equal(got.image, HU)


class TestWrite:
    @pytest.mark.parametrize("axes", ["LPS", "RAS", "SPL", "ARI"])
    def test_mask_lies_where_the_file_has_those_voxels(self, tmp_path, axes):
        image = nifti_of(axes)
        image.to_filename(tmp_path / "a.nii")
        item = ct.read(tmp_path / "a.nii", LIMIT)
        ct.write(tmp_path / "mask.nii.gz", item.image > 1000, item)
        mask = nibabel.load(tmp_path / "mask.nii.gz")
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        want = np.asanyarray(image.dataobj) > 1000
        np.testing.assert_array_equal(np.asanyarray(mask.dataobj), want)

    def test_series_and_its_nifti_give_the_same_file(self, tmp_path):
        nifti_of("LPS").to_filename(tmp_path / "a.nii.gz")
        items = [ct.read(path, LIMIT) for path in (series(tmp_path / "a"), tmp_path / "a.nii.gz")]
        np.testing.assert_array_equal(items[0].image, items[1].image)
        for name, item in zip("12", items, strict=True):
            ct.write(tmp_path / f"{name}.nii.gz", item.image > 1000, item)
        files = [nibabel.load(tmp_path / f"{name}.nii.gz") for name in "12"]
        np.testing.assert_array_equal(*(np.asanyarray(one.dataobj) for one in files))
        np.testing.assert_allclose(files[0].affine, files[1].affine, atol=1e-4)

    def test_probabilities_keep_their_values(self, tmp_path):
        item = ct.read(series(tmp_path / "a"), LIMIT)
        probs = np.random.default_rng(1).random(HU.shape, np.float32)
        ct.write(tmp_path / "p.nii.gz", probs, item)
        got = np.asanyarray(nibabel.load(tmp_path / "p.nii.gz").dataobj)
        np.testing.assert_array_equal(got, probs.transpose(2, 1, 0))

    @pytest.mark.parametrize(
        ("name", "mask", "match"),
        [
            ("a.nii", np.zeros(HU.shape, bool), "ends in .nii.gz"),
            ("a.nii.gz", np.zeros(HU.shape[::-1], bool), r"want a mask of \(4, 6, 5\)"),
            ("a.nii.gz", np.zeros(HU.shape, np.int64), "got int64"),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, name, mask, match):
        item = ct.read(series(tmp_path / "a"), LIMIT)
        with pytest.raises(ValueError, match=match):
            ct.write(tmp_path / name, mask, item)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TestLimits:
    @pytest.mark.parametrize("kind", ["nifti", "zipped", "series"])
    def test_a_volume_may_be_as_large_as_the_limit_and_no_larger(self, tmp_path, kind):
        path = {"nifti": tmp_path / "a.nii", "zipped": tmp_path / "a.nii.gz"}.get(kind)
        if path is None:
            path = series(tmp_path / "a")
        else:
            nifti_of("LPS").to_filename(path)
        assert ct.read(path, HU.size).image.size == HU.size
        refused(path, "want at most 119 voxels .* with 120", max_voxels=HU.size - 1)

    @pytest.mark.parametrize("zipped", [False, True])
    def test_a_header_that_claims_much_takes_no_memory(self, tmp_path, zipped):
        content = patched(nifti_bytes(np.zeros((2, 2, 2), np.int16)), DIM, "<4h", 3, 999, 999, 999)
        path = tmp_path / "a.nii"
        path.write_bytes(gzip.compress(content) if zipped else content)
        assert peak_bytes(lambda: refused(path, "truncated: want 19940")) < 1 << 23

    @pytest.mark.parametrize("field", [(VOX_OFFSET, "<f", 1e12), (DATATYPE, "<h", 2048)])
    def test_a_bomb_behind_a_small_header_stays_small(self, tmp_path, field):
        content = patched(nifti_bytes(np.zeros((2, 2, 2), np.int16)), *field)
        path = tmp_path / "a.nii.gz"
        # Members follow each other: 128 MiB in 130 KB, without making them all.
        path.write_bytes(gzip.compress(content) + gzip.compress(bytes(1 << 24)) * 8)
        peak = peak_bytes(lambda: refused(path, "for the shape in its header"))
        assert peak < 64 << 20

    def test_a_series_that_claims_much_takes_no_memory(self, tmp_path):
        folder = series(tmp_path / "a")
        for path in folder.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.Rows = dataset.Columns = 60_000
            dataset.save_as(path)
        refused(folder, "4 slices with 14,400,000,000")

    def test_a_large_deflated_dataset_is_not_inflated(self, tmp_path):
        folder = series(tmp_path / "a", uid.DeflatedExplicitVRLittleEndian)
        path = next(folder.iterdir())
        path.write_bytes(path.read_bytes() + bytes(1 << 21))
        with pytest.raises(ValueError, match=f"{path}: .* of a deflated dataset"):
            ct.read(folder, LIMIT)


class TestDamage:
    def test_one_dicom_file_is_no_volume(self, tmp_path):
        path = next(series(tmp_path / "a").iterdir())
        refused(path, r"got one DICOM file \(CT\)")
        assert "one DICOM file (CT)" in str(ct.refuse(path))

    def test_an_enhanced_ct_is_told_the_way_out(self, tmp_path):
        dataset = slice_of(0)
        dataset.SOPClassUID, dataset.NumberOfFrames = uid.EnhancedCTImageStorage, 32
        dataset.save_as(tmp_path / "all.dcm", enforce_file_format=True)
        refused(tmp_path / "all.dcm", "multi-frame file of 32 .*dcm2niix")

    def test_a_picture_is_called_one(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        assert str(ct.refuse(tmp_path / "a.png")).endswith("got a picture.")

    def test_a_damaged_slice_is_named(self, tmp_path):
        path = next(series(tmp_path / "a").iterdir())
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(ValueError, match=f"{path}: its pixels"):
            ct.read(path.parent, LIMIT)

    def test_a_changed_byte_in_a_gzip_is_noticed(self, tmp_path):
        content = bytearray(nifti_bytes(STORED, zipped=True))
        content[len(content) // 2] ^= 1
        path = tmp_path / "a.nii.gz"
        path.write_bytes(content)
        refused(path, "damaged gzip")

    @pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x1f\x8b\x08", b"hello" * 99])
    def test_what_is_no_nifti_is_refused(self, tmp_path, content):
        path = tmp_path / "a.nii"
        path.write_bytes(content)
        refused(path, "want a NIfTI file|damaged gzip")

    def test_random_damage_ends_in_one_sentence_or_a_volume(self, tmp_path):
        rng = np.random.default_rng(0)
        nifti_of("LPS").to_filename(tmp_path / "a.nii")
        nii = (tmp_path / "a.nii").read_bytes()
        for _ in range(150):
            content = bytearray(nii[: rng.integers(len(nii) + 1)] if rng.random() < 0.3 else nii)
            for place in rng.integers(0, min(len(content), 360) or 1, 4):
                content[place : place + 1] = rng.bytes(1)
            path = tmp_path / "damaged"
            path.write_bytes(gzip.compress(content) if rng.random() < 0.5 else content)
            assert volume_or_sentence(path)

    def test_random_damage_of_a_slice_likewise(self, tmp_path):
        rng = np.random.default_rng(0)
        path = sorted(series(tmp_path / "a").iterdir())[1]
        whole = path.read_bytes()
        for _ in range(60):
            content = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole)
            for place in rng.integers(132, max(len(content), 133), 3):
                content[place : place + 1] = rng.bytes(1)
            path.write_bytes(content)
            assert volume_or_sentence(path.parent)


def volume_or_sentence(path):
    try:
        item = ct.read(path, 10**6)
    except ValueError as error:
        message = str(error)
        return message.startswith(str(path)) and "\n" not in message
    return item.image.shape == item.mask.shape and bool(np.isfinite(item.affine).all())


@pytest.mark.skipif(not REALDATA.exists(), reason="the real sample is not here")
class TestRealFiles:
    def test_a_series_and_its_nifti_are_the_same_patient(self):
        """The NIfTI has means of 2 x 2 pixels of the whole scan, the series ten of its slices."""
        home = REALDATA / "ct_lung_pet_ct_dx"
        dicom = ct.read(home / "dicom_A0001", LIMIT)
        nifti = ct.read(home / "Lung_Dx-A0001_256x256x64_HU.nii.gz", LIMIT)
        coarse = dicom.image.reshape(10, 256, 2, 256, 2).mean((2, 4))
        first = min(
            range(nifti.image.shape[0] - 9),
            key=lambda d: np.abs(nifti.image[d : d + 10] - coarse).mean(),
        )
        assert np.abs(nifti.image[first : first + 10] - coarse).mean() < 2

    def test_a_mask_comes_back_on_the_grid_of_the_file(self, tmp_path):
        path = REALDATA / "ct_totalsegmentator_test/example_ct_sm.nii.gz"
        item = ct.read(path, LIMIT)
        ct.write(tmp_path / "m.nii.gz", item.image > 100, item)
        want, got = nibabel.load(path), nibabel.load(tmp_path / "m.nii.gz")
        np.testing.assert_allclose(got.affine, want.affine, atol=1e-4)
        np.testing.assert_array_equal(got.get_fdata() > 0, np.rint(want.get_fdata()) > 100)
