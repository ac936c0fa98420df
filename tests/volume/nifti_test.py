"""NIfTI files written, read back, and spoilt in every way; a real CT where there is one."""

import gzip
import pathlib
import struct

import nibabel
import numpy as np
import pytest
from absl.testing import parameterized
from etils import epath

from jaxlung.volume import grid, hounsfield, nifti

REAL_CT = (
    pathlib.Path(__file__).parents[3]
    / "shared/realdata/ct_lung_pet_ct_dx/Lung_Dx-A0001_256x256x64_HU.nii.gz"
)
SHAPE = (6, 5, 4)
LPS = np.diag([-0.7, -0.8, 2.5, 1.0])
C20, S20 = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
TURNED = np.array([[C20, -S20, 0, 90], [S20, C20, 0, 130], [0, 0, 1, -400], [0, 0, 0, 1]])
OBLIQUE = TURNED @ LPS
SHEARED = LPS + 0.6 * np.eye(4)[[0, 2, 1, 3]] * (np.arange(4) == 1)  # j leans to superior
# Where fields of a NIfTI-1 header lie, as the standard has them.
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_SLOPE, UNITS = 40, 70, 80, 108, 112, 123
QFORM_CODE, SFORM_CODE, SROW_X, SROW_Z, MAGIC = 252, 254, 280, 312, 344


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path)


def volume(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


def content_of(array=None, affine=LPS, kind=nibabel.Nifti1Image):
    """A .nii as nibabel writes it."""
    return kind(volume() if array is None else array, affine).to_bytes()


def patched(content, *patches):
    """Content with (offset, struct format, values...) written over it."""
    content = bytearray(content)
    for offset, form, *values in patches:
        struct.pack_into(form, content, offset, *values)
    return bytes(content)


class TestWrite:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    @pytest.mark.parametrize("affine", [LPS, OBLIQUE, SHEARED])
    def test_read_gives_back_what_was_written(self, folder, dtype, affine):
        path, array, where = folder / "a.nii.gz", volume(dtype), grid.Grid(SHAPE, affine)
        nifti.write(path, array, where)
        got, got_grid = nifti.read(path, "a")
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, array)
        grid.require_same("written", where, "read", got_grid)
        assert [p.name for p in folder.iterdir()] == ["a.nii.gz"]

    @pytest.mark.parametrize(("affine", "qform_code"), [(OBLIQUE, 1), (SHEARED, 0)])
    def test_nibabel_finds_both_forms_in_the_scanners_space(self, folder, affine, qform_code):
        nifti.write(folder / "a.nii.gz", volume(), grid.Grid(SHAPE, affine))
        header = nibabel.load(folder / "a.nii.gz").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, qform_code)
        assert header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
        if qform_code:
            np.testing.assert_allclose(header.get_qform(), affine, atol=1e-5)

    def test_the_same_volume_gives_the_same_bytes(self, folder):
        where = grid.Grid(SHAPE, OBLIQUE)
        nifti.write(folder / "a.nii.gz", volume(), where)
        nifti.write(folder / "b.nii.gz", volume(), where)
        content = (folder / "a.nii.gz").read_bytes()
        assert content == (folder / "b.nii.gz").read_bytes()
        assert content[4:8] == bytes(4)  # gzip's place for the time

    @pytest.mark.parametrize(
        ("name", "array", "match"),
        [
            ("a.nii", volume(), r"a\.nii: .*\.nii\.gz"),
            ("a.nii.gz", volume(np.float64), r"a\.nii\.gz: .*int16.*got float64"),
            ("a.nii.gz", volume(bool), "got bool"),
            ("a.nii.gz", volume(shape=(4, 5, 6)), r"\(6, 5, 4\), got \(4, 5, 6\)"),
        ],
    )
    def test_what_can_not_be_written_leaves_nothing(self, folder, name, array, match):
        with pytest.raises(ValueError, match=match):
            nifti.write(folder / name, array, grid.Grid(SHAPE, LPS))
        assert not list(folder.iterdir())


class TestRead:
    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("is_zipped", [False, True])
    def test_a_file_and_its_bytes_are_the_same(self, folder, kind, is_zipped):
        content = content_of(affine=OBLIQUE, kind=kind)
        content = gzip.compress(content) if is_zipped else content
        # The first bytes say what it is, not the name.
        (folder / "a.nii").write_bytes(content)
        for source in (folder / "a.nii", str(folder / "a.nii"), content):
            array, where = nifti.read(source, "a")
            np.testing.assert_array_equal(array, volume())
            np.testing.assert_allclose(where.affine, OBLIQUE, atol=1e-5)
            assert where.shape == SHAPE

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64])
    def test_unscaled_integers_stay_what_they_are(self, dtype):
        image = nibabel.Nifti1Image(volume(dtype), LPS, dtype=dtype)
        array, _ = nifti.read(image.to_bytes(), "a")
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, volume())

    def test_doubles_become_single(self):
        array, _ = nifti.read(content_of(volume(np.float64) + 0.25), "a")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, volume() + 0.25)

    @pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
    def test_slope_and_intercept_are_applied(self, dtype):
        content = patched(content_of(volume(dtype)), (SCL_SLOPE, "<ff", 2.0, -1024.0))
        array, _ = nifti.read(content, "a")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, volume() * 2.0 - 1024)

    @pytest.mark.parametrize(("slope", "inter"), [(0, 5), (np.nan, np.nan), (1, 0)])
    def test_scaling_that_is_none_is_not_applied(self, slope, inter):
        array, _ = nifti.read(patched(content_of(), (SCL_SLOPE, "<ff", slope, inter)), "a")
        assert array.dtype == np.int16
        np.testing.assert_array_equal(array, volume())

    def test_big_endian_files_become_native(self):
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(">i2")
        array, where = nifti.read(
            nibabel.Nifti1Image(volume().astype(">i2"), LPS, header).to_bytes(), "a"
        )
        assert array.dtype == np.dtype("=i2")
        np.testing.assert_array_equal(array, volume())
        np.testing.assert_allclose(where.affine, LPS, rtol=1e-6)

    def test_one_time_point_is_a_volume(self):
        array, where = nifti.read(content_of(volume(shape=(*SHAPE, 1))), "a")
        assert array.shape == where.shape == SHAPE

    def test_sform_comes_before_qform_before_voxel_sizes(self, caplog):
        image = nibabel.Nifti1Image(volume(), OBLIQUE)
        image.set_sform(OBLIQUE, 2)
        image.set_qform(LPS, 1)
        content = image.to_bytes()
        np.testing.assert_allclose(nifti.read(content, "a")[1].affine, OBLIQUE, atol=1e-4)
        content = patched(content, (SFORM_CODE, "<h", 0))
        np.testing.assert_allclose(nifti.read(content, "a")[1].affine, LPS, atol=1e-4)
        assert not caplog.records
        content = patched(content, (QFORM_CODE, "<h", 0))
        where = nifti.read(content, "b.nii")[1]
        assert "b.nii" in caplog.text
        np.testing.assert_allclose(np.diag(where.affine), (-0.7, 0.8, 2.5, 1), rtol=1e-6)
        centre = where.affine @ [2.5, 2, 1.5, 1]
        np.testing.assert_allclose(centre, (0, 0, 0, 1), atol=1e-6)

    @pytest.mark.parametrize(("unit", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
    def test_headers_in_other_units_are_brought_to_millimetres(self, unit, mm, caplog):
        stored = OBLIQUE / [[mm], [mm], [mm], [1]]
        _, where = nifti.read(patched(content_of(affine=stored), (UNITS, "<B", unit)), "a")
        np.testing.assert_allclose(where.affine[:3], OBLIQUE[:3], rtol=1e-6)
        assert not caplog.records

    def test_a_qform_beside_a_sform_of_zeros_is_used_and_told(self, caplog):
        image = nibabel.Nifti1Image(volume(), None)
        image.set_qform(OBLIQUE, 1)
        content = patched(image.to_bytes(), (SFORM_CODE, "<h", 1), (SROW_X, "<12f", *[0] * 12))
        where = nifti.read(content, "b.nii")[1]
        np.testing.assert_allclose(where.affine, OBLIQUE, atol=1e-5)
        assert "b.nii: its sform is all 0; the qform is used" in caplog.text

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("mm", [0.0, -0.7, np.nan, np.inf])
    @pytest.mark.parametrize("qform_code", [0, 1])
    def test_voxel_sizes_that_are_wanted_and_none_are_refused(self, axis, mm, qform_code):
        image = nibabel.Nifti1Image(volume(), None)
        image.set_qform(OBLIQUE, qform_code)
        content = patched(image.to_bytes(), (PIXDIM + 4 * axis, "<f", mm))
        with pytest.raises(ValueError, match=r"^a: pixdim: want voxel sizes above 0, got \[.*\]\."):
            nifti.read(content, "a")

    @pytest.mark.parametrize("mm", [0.0, 1.0, np.nan])
    def test_voxel_sizes_unlike_the_sforms_are_told(self, caplog, mm):
        content = patched(content_of(affine=OBLIQUE), (PIXDIM + 8, "<f", mm))
        np.testing.assert_allclose(nifti.read(content, "a.nii")[1].affine, OBLIQUE, rtol=1e-6)
        assert f"a.nii: its pixdim has voxels of 0.7 x 0.8 x {mm:.4g} mm, its sform" in caplog.text

    def test_content_is_bounded_by_its_header_whoever_reads_it(self):
        bomb = gzip.compress(content_of()) + gzip.compress(bytes(32 << 20))
        with pytest.raises(ValueError, match="for the shape in its header, got more"):
            nifti.read(bomb, "a")

    def test_an_offset_of_nothing_is_where_voxels_begin(self):
        array, _ = nifti.read(patched(content_of(), (VOX_OFFSET, "<f", 0.0)), "a")
        np.testing.assert_array_equal(array, volume())

    def test_nibabel_reads_the_same_as_we_do(self):
        content = patched(content_of(affine=OBLIQUE), (SCL_SLOPE, "<ff", 0.5, -10.0))
        array, where = nifti.read(content, "a")
        image = nibabel.Nifti1Image.from_bytes(content)
        np.testing.assert_allclose(array, image.get_fdata())
        np.testing.assert_array_equal(where.affine, image.affine)


def with_voxel(value, dtype=np.float32):
    array = volume(dtype)
    array[1, 2, 3] = value
    return content_of(array)


NO_FINITE_AFFINE = (SROW_X, "<f", np.nan)
BAD = dict(
    truncated=(content_of()[:-1], "truncated: want 592 bytes.*got 591"),
    truncated_header=(content_of()[:300], "want a NIfTI"),
    truncated_gzip=(gzip.compress(content_of())[:-20], "truncated or damaged gzip"),
    damaged_gzip=(patched(gzip.compress(content_of()), (30, "<q", 0)), "damaged gzip"),
    gzip_of_half=(gzip.compress(content_of()[:400]), "truncated: want 592"),
    empty=(b"", "got 0 bytes"),
    text=(b"not a volume at all" * 40, "want a NIfTI"),
    analyze=(patched(content_of(), (MAGIC, "<i", 0)), "ANALYZE"),
    header_of_a_pair=(patched(content_of(), (MAGIC, "4s", b"ni1\0")), "ANALYZE"),
    datatype=(patched(content_of(), (DATATYPE, "<h", 999)), "header that can't be used"),
    offset=(patched(content_of(), (VOX_OFFSET, "<f", np.inf)), "header that can't be used"),
    flat=(content_of(volume(shape=(6, 5))), r"got 2D of shape \(6, 5\)"),
    moving=(content_of(volume(shape=(6, 5, 4, 2))), r"got 4D of shape \(6, 5, 4, 2\)"),
    empty_axis=(patched(content_of(), (DIM, "<4h", 3, 6, 0, 4)), r"every axis, got .*\(6, 0, 4\)"),
    negative_axis=(patched(content_of(), (DIM, "<4h", 3, 6, -5, 4)), "every axis"),
    surface=(patched(content_of(), (DIM, "<4h", 3, -1, 1, 1)), r"every axis, got .*\(-1, 1, 1\)"),
    no_axes=(patched(content_of(), (DIM, "<h", 0)), "3D"),
    nan=(with_voxel(np.nan), "got 1 of 120 NaN or infinite"),
    infinite=(with_voxel(-np.inf), "got 1 of 120 NaN or infinite"),
    over_float32=(with_voxel(1e300, np.float64), "got 1 of 120 NaN or infinite"),
    complex=(content_of(volume(np.complex64)), "want real numbers"),
    singular=(patched(content_of(), (SROW_Z, "<4f", 0, 0, 0, 0)), "can be inverted"),
    not_finite=(patched(content_of(), NO_FINITE_AFFINE), "finite"),
    scaling=(patched(content_of(), (SCL_SLOPE, "<ff", 1.0, np.inf)), "scaling"),
    no_rotation=(
        patched(content_of(), (QFORM_CODE, "<hh3f", 1, 0, 2.0, 2.0, 2.0)),
        "place in space",
    ),
    unknown_unit=(patched(content_of(), (UNITS, "<B", 7)), "place in space"),
)


def error_of(content):
    try:
        nifti.read(content, "noisy")
    except ValueError as error:
        return str(error)
    return ""


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD)
    def test_says_what_is_wrong_with_which_file(self, kind, caplog):
        content, match = BAD[kind]
        with pytest.raises(ValueError, match=rf"^cases/{kind}\.nii: .*{match}"):
            nifti.read(content, f"cases/{kind}.nii")
        assert not caplog.records

    def test_noise_over_a_header_is_a_value_error_or_a_volume(self):
        np_rng, good, errors = np.random.default_rng(0), content_of(), []
        for _ in range(300):
            noisy = bytearray(good)
            for place in np_rng.integers(0, 352, 6):
                noisy[place] = np_rng.integers(256)
            errors.append(error_of(bytes(noisy)))
        assert 0 < errors.count("") < 300
        assert all(error.startswith("noisy: ") for error in errors if error)

    def test_a_missing_file_is_said_to_be_missing(self, folder):
        with pytest.raises(FileNotFoundError):
            nifti.read(folder / "a.nii.gz", "a")


class TestCaseName:
    @pytest.mark.parametrize(
        ("path", "want"),
        [
            ("x/coronacases_001.nii.gz", "coronacases_001"),
            ("radiopaedia_4_85506_1.nii", "radiopaedia_4_85506_1"),
            ("a.b.NII.GZ", "a.b"),
            ("x.nii/y.nii", "y"),
        ],
    )
    def test_is_the_name_without_its_ending(self, path, want):
        assert nifti.case_name(path) == want


class PhantomTest(parameterized.TestCase):
    @parameterized.product(
        # Which of x, y and z each axis of the file runs along, and which way (RAS+).
        axes_and_signs=[
            ((0, 1, 2), (1, 1, 1)),  # RAS
            ((0, 1, 2), (-1, -1, 1)),  # LPS
            ((1, 2, 0), (-1, -1, 1)),  # sagittal, PIR
            ((2, 0, 1), (1, -1, 1)),  # SLA
        ],
        frame=[np.eye(4), TURNED],
    )
    def test_left_anterior_superior_survives_the_file(self, axes_and_signs, frame):
        axes, signs = axes_and_signs
        affine = frame @ (np.eye(4)[:, [*axes, 3]] * (*np.multiply(signs, (0.7, 0.8, 2.5)), 1))
        # To left is against x, to anterior along y, to superior along z.
        to_end = np.multiply(signs, np.take((-1, 1, 1), axes)) > 0
        index = tuple(np.where(to_end, np.array(SHAPE) - 1, 0))
        array = np.zeros(SHAPE, np.int16)
        array[index] = 1000
        got, where = nifti.read(content_of(array, affine), "phantom")
        canonical = grid.to_canonical(got, where)
        depth, _, width = canonical.shape
        assert np.argwhere(canonical).tolist() == [[depth - 1, 0, width - 1]]
        back = np.argwhere(grid.from_canonical(canonical, where))[0]
        np.testing.assert_allclose(
            where.affine @ (*back, 1), affine @ (*index, 1), rtol=1e-6, atol=1e-4
        )


@pytest.mark.skipif(not REAL_CT.exists(), reason="the real sample is not here")
class TestRealCt:
    def test_is_a_supine_chest_in_hu(self):
        array, where = nifti.read(REAL_CT, REAL_CT.name)
        assert array.dtype == np.int16
        assert grid.orientation(where) == "LPS"
        assert hounsfield.doubt(array) is None
        hu, kind = hounsfield.to_hu(grid.to_canonical(array, where), REAL_CT.name)
        assert kind == "hu"
        assert hu.shape == grid.canonical_shape(where) == (64, 256, 256)
        assert grid.canonical_spacing_mm(where) == (5.0, 1.68359375, 1.68359375)
        # Bone lies behind the middle of the body; the lungs' air before the spine, inside it.
        body, bone = np.argwhere(hu > -300), np.argwhere(hu > 300)
        assert bone[:, 1].mean() > body[:, 1].mean() + 10
        np.testing.assert_array_equal(grid.from_canonical(hu, where), np.clip(array, -1024, 3071))
