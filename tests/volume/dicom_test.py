"""DICOM series written with pydicom, read back, and spoilt in every way; real ones if here."""

import os
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom import encaps, uid

from jaxlung.volume import dicom, grid, hounsfield, nifti
from tests.volume import bare_dicom as bare
from tests.volume import dicom_series as made

REALDATA = pathlib.Path(__file__).parents[3] / "shared" / "realdata"


class TestGeometry:
    @pytest.mark.parametrize("along_normal", [1, -1])
    @pytest.mark.parametrize("tilt", [0.0, 0.3])
    @pytest.mark.parametrize("name", made.ORIENTATIONS)
    def test_every_voxel_is_where_its_pixel_was(self, tmp_path, name, tilt, along_normal):
        orientation = np.array(made.ORIENTATIONS[name], float)
        normal = np.cross(*orientation)
        step = made.STEP_MM * (along_normal * normal + tilt * orientation[1])
        datasets = made.series(orientation=orientation, step=step)
        array, where = dicom.read_series(made.save(tmp_path / "ct", datasets))
        assert array.dtype == np.int16
        assert array.shape == where.shape == (made.COLUMNS, made.ROWS, made.SLICES)
        points = np.stack(
            [made.world_of(k, orientation, step) for k in range(made.SLICES)]
        ).reshape(-1, 3)
        assert sorted(array.ravel()) == list(range(len(points)))
        index = np.moveaxis(np.indices(array.shape), 0, -1)
        got_ras = index @ where.affine[:3, :3].T + where.affine[:3, 3]
        np.testing.assert_allclose(got_ras, points[array] * (-1, -1, 1), atol=1e-5)
        # In canonical order, D grows to superior, H to posterior and W to left.
        canonical = points[grid.to_canonical(array, where)]
        for axis, component in enumerate((2, 1, 0)):
            assert (np.diff(canonical[..., component], axis=axis) > 0).all()

    def test_spacing_between_rows_comes_first(self, tmp_path):
        _, where = dicom.read_series(made.save(tmp_path / "ct", made.series()))
        want = (made.STEP_MM, made.BETWEEN_ROWS_MM, made.BETWEEN_COLUMNS_MM)
        np.testing.assert_allclose(grid.canonical_spacing_mm(where), want)

    @pytest.mark.parametrize("step_mm", [0.5, 0.625, 0.75, 1.25, 2.5])
    def test_positions_rounded_to_a_tenth_are_even_enough(self, tmp_path, step_mm):
        datasets = [made.make_slice(k, step=(0, 0, step_mm)) for k in range(40)]
        for k, dataset in enumerate(datasets):
            dataset.ImagePositionPatient[2] = f"{-400 + k * step_mm:.1f}"
        folder = made.save(tmp_path / "ct", datasets, [f"{k}" for k in range(40)])
        _, where = dicom.read_series(folder)
        assert abs(where.affine[2, 2] - step_mm) < 0.1 / 39 + 1e-9
        for missing in (1, 20, 38):
            (folder / f"{missing}").rename(tmp_path / "away")
            with pytest.raises(ValueError, match="is a slice missing"):
                dicom.read_series(folder)
            (tmp_path / "away").rename(folder / f"{missing}")

    def test_steps_that_change_little_but_for_good_are_refused(self, tmp_path):
        datasets = [made.make_slice(k) for k in range(40)]
        for k, dataset in enumerate(datasets):
            dataset.ImagePositionPatient[2] = f"{-400 + 0.6 * k + 0.08 * max(0, k - 20):.2f}"
        folder = made.save(tmp_path / "ct", datasets, [f"{k}" for k in range(40)])
        with pytest.raises(ValueError, match="apart along one line"):
            dicom.read_series(folder)

    def test_rounded_positions_are_even_enough(self, tmp_path):
        datasets = made.series()
        datasets[1].ImagePositionPatient[2] += 0.02 * made.STEP_MM / 2
        _, where = dicom.read_series(made.save(tmp_path / "ct", datasets))
        np.testing.assert_allclose(where.affine[:3, 2], (0, 0, made.STEP_MM), atol=1e-9)


class TestValues:
    def test_each_slice_has_its_own_slope_and_intercept(self, tmp_path):
        datasets = made.series(dtype=np.uint16)
        for k, dataset in enumerate(datasets):
            dataset.RescaleSlope, dataset.RescaleIntercept = str(0.5 + k), str(-1024 - k)
        array, _ = dicom.read_series(made.save(tmp_path / "ct", datasets))
        stored = np.arange(made.SLICES * made.ROWS * made.COLUMNS).reshape(
            made.SLICES, made.ROWS, made.COLUMNS
        )
        for k in range(made.SLICES):
            want = np.rint(stored[k].T * (0.5 + k) - 1024 - k)
            np.testing.assert_array_equal(array[:, :, k], want)

    def test_without_a_rescale_values_are_as_stored(self, tmp_path):
        datasets = made.series()
        for dataset in datasets:
            del dataset.RescaleSlope, dataset.RescaleIntercept
        array, _ = dicom.read_series(made.save(tmp_path / "ct", datasets))
        assert (array.min(), array.max()) == (0, made.SLICES * made.ROWS * made.COLUMNS - 1)

    def test_values_beyond_int16_stop_at_its_ends(self, tmp_path):
        datasets = made.series()
        pixels = np.zeros((made.ROWS, made.COLUMNS), np.int16)
        pixels[0, :2] = -32768, 32767
        made.set_pixels(datasets[0], pixels)
        datasets[0].RescaleSlope, datasets[0].RescaleIntercept = "2", "-1024"
        array, _ = dicom.read_series(made.save(tmp_path / "ct", datasets))
        assert array[:3, 0, 0].tolist() == [-32768, 32767, -1024]

    def test_padding_is_kept(self, tmp_path):
        datasets = made.series()
        made.set_pixels(datasets[1], np.full((made.ROWS, made.COLUMNS), -2048, np.int16))
        array, _ = dicom.read_series(made.save(tmp_path / "ct", datasets))
        assert (array[:, :, 1] == -2048).all()

    def test_compression_that_pydicom_knows_changes_nothing(self, tmp_path):
        datasets = made.series()
        want, _ = dicom.read_series(made.save(tmp_path / "plain", datasets))
        for dataset in datasets:
            dataset.compress(uid.RLELossless, generate_instance_uid=False)
        got, _ = dicom.read_series(made.save(tmp_path / "packed", datasets))
        np.testing.assert_array_equal(got, want)

    @pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
    def test_other_encodings_read_the_same(self, tmp_path, syntax):
        datasets = made.series()
        for dataset in datasets:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == uid.ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
                dataset["PixelData"].VR = "OW"
        array, _ = dicom.read_series(made.save(tmp_path / "ct", datasets))
        np.testing.assert_array_equal(
            array.T.ravel(), np.arange(made.SLICES * made.ROWS * made.COLUMNS)
        )


def test_other_files_are_passed_over(tmp_path):
    folder = made.save(tmp_path / "ct", made.series(), ["LICENSE.txt", "b.dcm", "0001"])
    want, _ = dicom.read_series(folder)
    (folder / "README").write_text("not an image")
    (folder / "short").write_bytes(b"\0" * 130)
    (folder / "._b.dcm").write_bytes(b"what a Mac leaves behind")
    (folder / "more").mkdir()
    directory = made.make_slice()
    directory.SOPClassUID = uid.MediaStorageDirectoryStorage
    directory.SeriesInstanceUID = "1.2.9"
    made.save(folder, [directory], ["DICOMDIR"])
    np.testing.assert_array_equal(dicom.read_series(folder)[0], want)


class TestBare:
    @pytest.mark.parametrize(
        "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
    )
    @pytest.mark.parametrize("bare_slices", [[2], [0, 1, 2]])
    def test_a_dataset_alone_is_a_slice(self, tmp_path, syntax, bare_slices):
        want, where = dicom.read_series(made.save(tmp_path / "whole", made.series()))
        names = ["IM0", "IM1", "IM2"]
        folder = made.save(tmp_path / "ct", made.series(), names)
        for k in bare_slices:
            dataset = made.make_slice(k)
            if not syntax.is_little_endian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
                dataset["PixelData"].VR = "OW"
            bare.write(folder / names[k], dataset, syntax)
        got, got_where = dicom.read_series(folder)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got_where.affine, where.affine)
        assert [path.name for path in dicom.slice_paths(folder)] == names

    @pytest.mark.parametrize("start", [bytes(128) + b"DICM", b""])
    def test_with_group_2_but_no_preamble_or_the_other_way_about(self, tmp_path, start):
        want, _ = dicom.read_series(made.save(tmp_path / "ct", made.series(), ["a", "b", "c"]))
        path = tmp_path / "ct/c"
        rest = bare.content(made.make_slice(2), uid.ImplicitVRLittleEndian)
        path.write_bytes(start + rest if start else path.read_bytes()[132:])
        np.testing.assert_array_equal(dicom.read_series(tmp_path / "ct")[0], want)

    def test_compression_that_is_not_named_is_told(self, tmp_path):
        folder = made.save(tmp_path / "ct", made.series(), ["a", "b", "c"])
        dataset = made.make_slice(2)
        dataset.compress(uid.RLELossless, generate_instance_uid=False)
        bare.write(folder / "c", dataset)
        with pytest.raises(ValueError, match=r"ct/c: its pixels are compressed.*\(0002,0010\)"):
            dicom.read_series(folder)

    @pytest.mark.parametrize("content", [b"", b"\0" * 999, b"IM2" * 99])
    def test_what_is_named_like_slices_and_is_none_is_refused(self, tmp_path, content):
        folder = made.save(tmp_path / "ct", made.series(), ["IM0", "IM1", "IM2"])
        (folder / "IM13").write_bytes(content)
        with pytest.raises(ValueError, match=r"ct/IM13: want a DICOM file, as it is named like IM"):
            dicom.read_series(folder)


class TestBeside:
    def test_what_is_no_slice_is_left_out_with_a_line(self, tmp_path, caplog):
        folder = made.save(tmp_path / "ct", made.series(), ["a", "b", "c"])
        want, _ = dicom.read_series(folder)
        assert not caplog.records
        scout, screen, structures, pet = (made.make_slice(k) for k in (0, 1, 2, 0))
        scout.ImageType, scout.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.4"
        screen.SOPClassUID, screen.SeriesInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.5"
        del screen.ImagePositionPatient
        structures.Modality, structures.SeriesInstanceUID = "RTSTRUCT", "1.2.6"
        del structures.PixelData, structures.ImagePositionPatient
        pet.Modality, pet.SeriesInstanceUID = "PT", "1.2.7"
        made.save(folder, [scout, screen, structures, pet], ["s", "t", "u", "v"])
        np.testing.assert_array_equal(dicom.read_series(folder)[0], want)
        assert caplog.messages == [
            f"{folder}: left out files that are no slices of the CT: s (CT), t (CT), "
            "u (RTSTRUCT), ..."
        ]

    def test_links_and_pipes_beside_slices_change_nothing(self, tmp_path):
        folder = made.save(tmp_path / "ct", made.series(), ["a", "b", "c"])
        want, _ = dicom.read_series(folder)
        (folder / "latest").symlink_to("c")
        os.mkfifo(folder / "pipe")
        np.testing.assert_array_equal(dicom.read_series(folder)[0], want)


def changed(index, **changes):
    """A series in which some tags of one slice are others; None takes them out."""
    datasets = made.series()
    for name, value in changes.items():
        if value is None:
            delattr(datasets[index], name)
        else:
            setattr(datasets[index], name, value)
    return datasets


def all_changed(**changes):
    return [changed(k, **changes)[k] for k in range(made.SLICES)]


def with_pixels(index, pixels, **changes):
    datasets = changed(index, **changes)
    made.set_pixels(datasets[index], pixels)
    return datasets


def compressed():
    datasets = made.series()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
        dataset.PixelData = encaps.encapsulate([b"\xff\xd8 no JPEG at all"])
        dataset["PixelData"].is_undefined_length = True
    return datasets


# Names given to slices are 3, 1 and 6.
TILTED = made.decimal(made.ORIENTATIONS["turned"])
SKEWED = made.decimal((1, 0, 0, 0.6, 0.8, 0))
BAD = dict(
    bare=(
        all_changed(ImagePositionPatient=None),
        r"/\d: .*ImagePositionPatient \(0020,0032\).*incomplete",
    ),
    no_orientation=(changed(1, ImageOrientationPatient=None), r"/1: .*ImageOrientationPatient \("),
    no_spacing=(changed(2, PixelSpacing=None), r"/6: .*PixelSpacing \(0028,0030\), got none"),
    empty_position=(changed(0, ImagePositionPatient=""), r"/3: .*ImagePositionPatient \("),
    two_coordinates=(changed(0, ImagePositionPatient=[1, 2]), "/3: ImagePositionPatient can't"),
    skewed=(all_changed(ImageOrientationPatient=SKEWED), "/.: .*two unit vectors at right"),
    no_extent=(changed(1, PixelSpacing=[0, 1]), r"/1: .*PixelSpacing above 0, got .*\[0.0, 1.0\]"),
    turned_slice=(changed(1, ImageOrientationPatient=TILTED), ": direction of rows: want .*as in"),
    other_spacing=(changed(1, PixelSpacing=[0.75, 0.75]), r"PixelSpacing: want \[.*as in .*, got"),
    other_shape=(
        with_pixels(1, np.zeros((made.COLUMNS, made.ROWS), np.int16)),
        r"rows and columns: want \[.*\] as in \d, got",
    ),
    same_place=(
        [*made.series(), made.make_slice(1)],
        r": want one slice at each position, got (1 and 4|4 and 1) both at \[-120.5, -90.25, -39.*",
    ),
    missing_slice=(
        [made.make_slice(k) for k in (0, 1, 2, 4)],
        r"2.5 mm apart.*got 5 mm from \[.*-395.0\] to \[.*-390.0\], 6 and 4; is a slice missing",
    ),
    uneven=(
        changed(1, ImagePositionPatient=[*made.CORNER[:2], made.CORNER[2] + 1.05 * made.STEP_MM]),
        "mm apart along one line",
    ),
    shifted=(
        changed(
            2, ImagePositionPatient=[*(made.CORNER[:2] + 1), made.CORNER[2] + 2 * made.STEP_MM]
        ),
        "mm apart along one line",
    ),
    single=(made.series()[:1], "want two slices or more, got only 3: .*SliceThickness"),
    two_series=(
        [*made.series(), *changed(0, SeriesInstanceUID="1.2.4")[:1]],
        r"want one series, got 2: CT 1\.2\.\d \(\d files?\), CT 1\.2\.\d \(\d files?\); move",
    ),
    pet=(all_changed(Modality="PT"), r"want a series of modality CT, got PT 1\.2\.3 \(3 files\)"),
    multi_frame=(changed(0, NumberOfFrames=2), "/3: .*multi-frame file of 2 .*dcm2niix"),
    enhanced=(
        changed(0, SharedFunctionalGroupsSequence=[pydicom.Dataset()], NumberOfFrames=9),
        "/3: .*multi-frame file of 9",
    ),
    colour=(
        with_pixels(0, np.zeros((made.ROWS, made.COLUMNS, 3), np.uint8), SamplesPerPixel=3),
        "/3: .*colour",
    ),
    no_pixels=(changed(1, PixelData=None), "/1: truncated: it ends before its pixels"),
    few_pixels=(changed(1, PixelData=bytes(8)), "/1: its pixels .*can't be decoded: trunc"),
    compressed=(
        compressed(),
        r"/\d: its pixels \(JPEG Lossless.*\) need another package: pip install pylibjpeg "
        r"pylibjpeg-libjpeg$",
    ),
    some_without_rescale=(
        changed(1, RescaleSlope=None, RescaleIntercept=None),
        "has a rescale to HU: want (True|False) as in .*, got (True|False)",
    ),
    other_modality=(changed(1, Modality="CU"), r"want one series, got 2: .*CU 1\.2\.3 \(1 file\)"),
)


class TestBadSeries:
    @pytest.mark.parametrize("kind", BAD)
    def test_says_in_one_line_what_is_wrong_with_which(self, tmp_path, kind):
        datasets, match = BAD[kind]
        folder = made.save(tmp_path / kind, datasets)
        with pytest.raises(ValueError, match=rf"^{folder}.*{match}") as caught:
            dicom.read_series(folder)
        assert "\n" not in str(caught.value)

    def test_a_folder_without_dicom_files_says_where_to_look(self, tmp_path):
        (tmp_path / "LICENSE").write_text("no image")
        with pytest.raises(ValueError, match=r"no DICOM file among its 1 files\.$"):
            dicom.read_series(tmp_path)
        (tmp_path / "inner").mkdir()
        with pytest.raises(ValueError, match=r"no DICOM file.*; look in its folders inner\.$"):
            dicom.read_series(tmp_path)

    def test_a_missing_folder_is_said_to_be_missing(self, tmp_path):
        with pytest.raises(ValueError, match="none: want a folder of DICOM files"):
            dicom.read_series(tmp_path / "none")

    def test_an_empty_slice_is_not_passed_over(self, tmp_path):
        folder = made.save(tmp_path / "ct", made.series())
        (folder / "4.dcm").write_bytes(b"")
        with pytest.raises(ValueError, match=r"4\.dcm: .*does not start as such"):
            dicom.read_series(folder)

    def test_the_number_of_files_of_each_series_is_told(self, tmp_path):
        others = [made.make_slice(k) for k in (0, 1)]
        for dataset in others:
            dataset.SeriesInstanceUID = "1.2.4"
        folder = made.save(tmp_path / "ct", [*made.series(), *others])
        with pytest.raises(ValueError, match="got 2: ") as caught:
            dicom.read_series(folder)
        assert "CT 1.2.3 (3 files)" in str(caught.value)
        assert "CT 1.2.4 (2 files)" in str(caught.value)


def error_of(folder):
    try:
        dicom.read_series(folder)
    except ValueError as error:
        return str(error)
    return ""


def test_a_file_cut_anywhere_is_told(tmp_path):
    folder = made.save(tmp_path / "ct", made.series(), ["a.dcm", "b.dcm", "c.dcm"])
    content = (folder / "b.dcm").read_bytes()
    for length in range(0, len(content), 3):
        (folder / "b.dcm").write_bytes(content[:length])
        # Before its SeriesInstanceUID, the file seems to be of a series of its own.
        error = error_of(folder)
        assert error.startswith((f"{folder}/b.dcm: ", f"{folder}: want one series"))


def test_noise_over_a_header_is_a_value_error_or_a_volume(tmp_path):
    np_rng, errors = np.random.default_rng(0), []
    folder = made.save(tmp_path / "ct", made.series(), ["a.dcm", "b.dcm", "c.dcm"])
    content = (folder / "b.dcm").read_bytes()
    for _ in range(200):
        noisy = bytearray(content)
        for place in np_rng.integers(132, len(content) - 40, 3):
            noisy[place] = np_rng.integers(256)
        (folder / "b.dcm").write_bytes(noisy)
        errors.append(error_of(folder))
    assert 0 < errors.count("") < 200
    assert [error for error in errors if error and not error.startswith(str(folder))] == []


@pytest.mark.skipif(not REALDATA.exists(), reason="the real samples are not here")
class TestRealSeries:
    def test_lies_on_the_nifti_of_the_same_patient(self):
        home = REALDATA / "ct_lung_pet_ct_dx"
        fine, fine_grid = dicom.read_series(home / "dicom_A0001")
        coarse, coarse_grid = nifti.read(home / "Lung_Dx-A0001_256x256x64_HU.nii.gz", "nifti")
        assert fine.shape == (512, 512, 10)
        # The middle of the first two by two pixels, and of the last, in the NIfTI's voxels.
        middles = fine_grid.affine @ np.array([(0.5, 0.5, 0, 1), (510.5, 510.5, 9, 1)]).T
        corners = (np.linalg.inv(coarse_grid.affine) @ middles)[:3].T
        np.testing.assert_allclose(corners, [(0, 0, 27), (255, 255, 36)], atol=1e-3)
        means = fine.reshape(256, 2, 256, 2, 10).mean((1, 3))
        assert np.abs(means - coarse[:, :, 27:37]).max() <= 0.5  # rounded to int16

    def test_slices_without_modality_and_patient_are_read(self):
        array, where = dicom.read_series(REALDATA / "dicom_lungmask_tests")
        assert grid.canonical_spacing_mm(where) == (1.0, 0.625, 0.625)
        assert array.shape == (512, 512, 2)
        assert array.min() == -2048
        assert hounsfield.to_hu(array, "lungmask")[0].min() == -1024

    def test_real_slices_without_a_place_in_space_are_refused(self, tmp_path):
        for path in sorted((REALDATA / "dicom_lungmask_tests").iterdir()):
            dataset = pydicom.dcmread(path)
            del dataset.ImagePositionPatient
            dataset.save_as(tmp_path / path.name)
        with pytest.raises(ValueError, match=r"0\.dcm: want the tag ImagePositionPatient"):
            dicom.read_series(tmp_path)
