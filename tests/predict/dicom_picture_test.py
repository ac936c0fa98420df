"""DICOM X-rays written with pydicom agree with the formulas of PS3.3; damaged ones are refused."""

import io
import types
from unittest import mock

import numpy as np
import pydicom
import pytest
from absl.testing import parameterized
from PIL import Image
from pydicom import encaps, uid

from jaxlung.predict import dicom_picture, pictures
from tests.volume import bare_dicom as bare

PIXELS = np.random.default_rng(0).integers(0, 4096, (6, 9)).astype(np.uint16)
MANY = 10_000


def make(pixels=PIXELS, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "DX"
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def lut(first, table, depth):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(table), first, depth])
    item.add_new("LUTData", "US", [int(x) for x in table])
    return pydicom.Sequence([item])


def stretched(values, low=None, high=None):
    low, high = (values.min(), values.max()) if low is None else (low, high)
    return np.interp(values, [low, high], [0, 255])


class DicomTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.path = tmp_path / "a.dcm"

    def read(self, dataset, max_pixels=MANY):
        dataset.save_as(self.path, enforce_file_format=True)
        return pictures.read(self.path, max_pixels)

    def assert_image(self, dataset, want, atol=0.5 + 1e-6):
        got = self.read(dataset)
        assert (got.image.dtype, got.kind) == (np.uint8, "DICOM")
        np.testing.assert_allclose(got.image.astype(float), want, atol=atol)

    def assert_refused(self, dataset, match, max_pixels=MANY):
        with pytest.raises(ValueError, match=rf"a\.dcm: {match}"):
            self.read(dataset, max_pixels)


class ValuesTest(DicomTest):
    def test_without_a_window_the_least_is_black_and_the_greatest_white(self):
        self.assert_image(make(), stretched(PIXELS.astype(float)))

    def test_monochrome1_is_inverted(self):
        dataset = make(PhotometricInterpretation="MONOCHROME1")
        self.assert_image(dataset, 255 - stretched(PIXELS.astype(float)))

    @parameterized.parameters("LINEAR", "LINEAR_EXACT", "SIGMOID", None)
    def test_windows_follow_the_standard(self, function):
        centre, width, slope, intercept = 1500.0, 800.0, 2.0, -1000.0
        dataset = make(RescaleSlope="2", RescaleIntercept="-1000")
        dataset.WindowCenter, dataset.WindowWidth = ["1500", "7"], ["800", "7"]
        if function:
            dataset.VOILUTFunction = function
        x = PIXELS * slope + intercept
        want = {  # PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1, y from 0 to 1
            "LINEAR": np.clip((x - (centre - 0.5)) / (width - 1) + 0.5, 0, 1),
            "LINEAR_EXACT": np.clip((x - centre) / width + 0.5, 0, 1),
            "SIGMOID": 1 / (1 + np.exp(-4 * (x - centre) / width)),
        }[function or "LINEAR"]
        self.assert_image(dataset, 255 * want)
        dataset.PhotometricInterpretation = "MONOCHROME1"
        self.assert_image(dataset, 255 - 255 * want)

    @parameterized.parameters(
        dict(WindowWidth="0"),
        dict(WindowWidth="0.5"),
        dict(WindowWidth="-3"),
        dict(WindowWidth=""),
        dict(WindowWidth="0", VOILUTFunction="SIGMOID"),
        dict(WindowWidth="800", VOILUTFunction=""),
        dict(WindowWidth="800", VOILUTFunction="CUBIC"),
    )
    def test_a_window_that_is_none_counts_as_none(self, **tags):
        self.assert_image(make(WindowCenter="1500", **tags), stretched(PIXELS.astype(float)))

    def test_a_narrow_window_is_one_where_the_function_allows_it(self):
        dataset = make(WindowCenter="1500", WindowWidth="0.5", VOILUTFunction="LINEAR_EXACT")
        self.assert_image(dataset, 255 * (PIXELS > 1500))

    def test_a_falling_rescale_turns_black_and_white_with_and_without_a_window(self):
        dataset = make(RescaleSlope="-1", RescaleIntercept="4095")
        self.assert_image(dataset, 255 - stretched(PIXELS.astype(float)))
        dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
        self.assert_image(dataset, stretched(4095.0 - PIXELS, 0, 4095))

    def test_a_lookup_table_goes_before_a_window_and_clamps_beyond_its_ends(self):
        table = np.sqrt(np.arange(2001)) * 50
        # It claims 16 bits and fills 12 of them.
        dataset = make(VOILUTSequence=lut(1000, table, 16), WindowCenter="5", WindowWidth="2")
        table = np.floor(table)
        want = stretched(table[np.clip(PIXELS.astype(int) - 1000, 0, 2000)], 0, table.max())
        self.assert_image(dataset, want)

    def test_padding_is_black_and_does_not_count(self):
        pixels = PIXELS + 100
        pixels[:, 0], pixels[:, 1] = 60_000, 50_000
        want = stretched(pixels.astype(float), pixels[:, 2:].min(), pixels[:, 2:].max())
        for kind, inside in (("MONOCHROME2", want), ("MONOCHROME1", 255 - want)):
            dataset = make(pixels, PhotometricInterpretation=kind)
            dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 60_000, 50_000
            self.assert_image(dataset, np.where(pixels >= 50_000, 0, inside))

    def test_a_constant_image_is_black(self):
        self.assert_image(make(np.full((3, 4), 7, np.uint8)), np.zeros((3, 4)))

    @parameterized.parameters(
        dict(Modality="CT"), dict(Modality="", SOPClassUID=uid.CTImageStorage)
    )
    def test_a_ct_slice_is_seen_through_the_lung_window(self, **tags):
        dataset = make(RescaleSlope="1", RescaleIntercept="-1024", **tags)
        dataset.WindowCenter, dataset.WindowWidth = "40", "400"
        self.assert_image(dataset, stretched(PIXELS - 1024.0, -1250, 250))

    def test_colours_become_luminance(self):
        colours = np.random.default_rng(1).integers(0, 256, (4, 5, 3)).astype(np.uint8)
        dataset = make(colours, PhotometricInterpretation="RGB", PlanarConfiguration=0)
        self.assert_image(dataset, colours @ (0.299, 0.587, 0.114), atol=1)

    def test_colours_of_twelve_bits_in_sixteen_are_stretched_as_greys_are(self):
        for pixels in (
            PIXELS[..., None].repeat(3, axis=2),
            np.dstack([PIXELS, PIXELS // 2, PIXELS]),
        ):
            dataset = make(pixels, PhotometricInterpretation="RGB", PlanarConfiguration=0)
            self.assert_image(dataset, stretched(pixels @ np.array([0.299, 0.587, 0.114])))

    def test_compressed_pixels_are_decoded(self):
        dataset = make()
        dataset.compress(uid.RLELossless, generate_instance_uid=False)
        self.assert_image(dataset, stretched(PIXELS.astype(float)))
        smooth, jpeg = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8), io.BytesIO()
        Image.fromarray(smooth).save(jpeg, "jpeg", quality=100)
        dataset = make(smooth)
        dataset.PixelData = encaps.encapsulate([jpeg.getvalue()])
        dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        dataset.WindowCenter, dataset.WindowWidth = "128", "256"
        self.assert_image(dataset, smooth, atol=2)


class PlaceTest(DicomTest):
    @parameterized.product(right=["L", "R"], down=["F", "H"], turned=[False, True])
    def test_the_head_is_put_up_and_the_side_is_told(self, right, down, turned):
        # The patient, seen from the front: right hand on the left, head up.
        patient = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
        stored = patient if right == "L" else patient[:, ::-1]
        stored = stored if down == "F" else stored[::-1]
        directions = [right, down]
        if turned:
            stored, directions = stored.T, directions[::-1]
        dataset = make(np.ascontiguousarray(stored), PatientOrientation=directions)
        dataset.WindowCenter, dataset.WindowWidth = "128", "256"
        dataset.PixelSpacing = ["0.1", "0.2"]
        got = self.read(dataset)
        want = patient[:, ::-1] if got.mirrored else patient
        np.testing.assert_array_equal(got.image, want)
        np.testing.assert_array_equal(pictures.to_stored(got.image, got), stored)
        assert got.pixel_mm == ((0.2, 0.1) if turned else (0.1, 0.2))
        if (down, turned) == ("F", False):
            assert got.mirrored == (right == "R")

    @parameterized.parameters(
        ([], None), (["L"], None), (["A", "F"], None), (["LF", "FR"], False), (["R", "P"], True)
    )
    def test_other_orientations(self, directions, mirrored):
        got = self.read(make(PatientOrientation=directions, ImageLaterality="R"))
        assert (got.orientation, got.mirrored) == (1, mirrored)

    @parameterized.parameters(
        (dict(), None),
        (dict(ImagerPixelSpacing=["0.2", "0.3"]), (0.2, 0.3)),
        (dict(ImagerPixelSpacing=["0.2", "0.3"], PixelSpacing=["0.1", "0.1"]), (0.1, 0.1)),
        (dict(ImagerPixelSpacing=["0.2", "0.2"], PixelSpacing=["0", "0"]), (0.2, 0.2)),
        (dict(NominalScannedPixelSpacing=["0.4", "0.4"]), (0.4, 0.4)),
    )
    def test_a_pixel_has_the_size_that_is_nearest_to_the_patient(self, tags, want):
        assert self.read(make(**tags)).pixel_mm == want

    def test_the_magnification_is_divided_out(self):
        dataset = make(ImagerPixelSpacing=["0.2", "0.2"])
        dataset.EstimatedRadiographicMagnificationFactor = "1.25"
        np.testing.assert_allclose(self.read(dataset).pixel_mm, (0.16, 0.16))


class RefusalTest(DicomTest):
    @parameterized.parameters(
        (dict(Modality="MR"), r"want an X-ray or a CT slice \(CR, DX, .*\), got 'MR'"),
        (dict(NumberOfFrames=3), "want one image a file, got a multi-frame file of 3"),
        (dict(Rows=0), "want an image, got 0 rows and 9 columns"),
        (dict(Rows=65535, Columns=65535), "want at most 10,000 pixels, got 65535 x 65535"),
        (dict(PixelData=b"1234"), "Explicit VR Little Endian pixels: truncated or damaged"),
        (dict(PhotometricInterpretation="HSV"), ".*want MONOCHROME1 or MONOCHROME2, got HSV"),
        (dict(RescaleSlope="1e308", RescaleIntercept="0"), ".*no finite numbers"),
    )
    def test_what_is_no_picture_is_said(self, tags, match):
        self.assert_refused(make(**tags), match)

    def test_a_file_without_pixels(self):
        dataset = make()
        del dataset.PixelData
        self.assert_refused(dataset, "truncated: it ends before its pixels")

    def test_a_file_far_larger_than_its_pixels_is_not_read(self):
        with mock.patch.object(dicom_picture, "_HEADER_BYTES", 0):
            self.assert_refused(make(), "want at most 64 bytes for 4 pixels, got", max_pixels=4)

    def test_what_may_unpack_to_any_size_is_refused(self):
        dataset = make()
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        self.assert_refused(dataset, "got a DICOM file deflated as a whole")

    @parameterized.parameters(
        (uid.JPEGLosslessSV1, "pylibjpeg-libjpeg"), (uid.HTJ2K, "pylibjpeg-openjpeg")
    )
    def test_a_missing_decoder_is_named(self, syntax, package):
        dataset = make(PixelData=encaps.encapsulate([b"1234"]))
        dataset.file_meta.TransferSyntaxUID = syntax
        none = types.SimpleNamespace(is_available=False)
        with mock.patch.object(dicom_picture.dicom_pixels, "get_decoder", return_value=none):
            self.assert_refused(dataset, f".*pip install pylibjpeg {package}$")


class BareTest(DicomTest):
    @parameterized.parameters(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
    def test_an_x_ray_without_preamble_is_read(self, syntax):
        want = self.read(make())
        bare.write(self.path, make(), syntax)
        np.testing.assert_array_equal(pictures.read(self.path, MANY).image, want.image)


class DamageTest(DicomTest):
    @parameterized.parameters(b"\xff" * 60, b"\2\0\0\0UL\3\0abc" + bytes(60), b"")
    def test_damage_is_no_slice_and_no_picture(self, rest):
        self.path.write_bytes(bytes(128) + b"DICM" + rest)
        with pytest.raises(ValueError, match=r"a\.dcm: truncated or damaged"):
            pictures.read(self.path, MANY)
