"""Pictures of every kind, against the arrays they were written from; and 300 damaged ones."""

import concurrent.futures
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from absl.testing import parameterized
from PIL import Image

from jaxlung.image import image_file
from jaxlung.predict import pictures, quiet
from tests.image import image_files

GREY = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4
MANY = 10_000


def tiff(pixels, photometric, width=None):
    """A file of one strip, by the TIFF 6.0 standard; `width` is what it claims."""
    kinds = {"u": 1, "i": 2, "f": 3}
    tags = [
        (256, width or pixels.shape[1]),
        (257, pixels.shape[0]),
        (258, 8 * pixels.itemsize),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, pixels.shape[0]),
        (279, pixels.nbytes),
        (339, kinds[pixels.dtype.kind]),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    ifd = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + ifd


class PictureTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.path = tmp_path / "a.dat"  # a suffix says nothing

    def read(self, content, max_pixels=MANY):
        self.path.write_bytes(content)
        return pictures.read(self.path, max_pixels)


class ReadTest(PictureTest):
    @parameterized.product(kind=["PNG", "TIFF"], mode=["L", "RGB", "RGBA", "LA", "P"])
    def test_grey_comes_back_whatever_the_mode(self, kind, mode):
        got = self.read(image_files.encoded(Image.fromarray(GREY).convert(mode), kind))
        np.testing.assert_array_equal(got.image, GREY)
        assert (got.kind, got.orientation, got.pixel_mm, got.mirrored) == (kind, 1, None, None)
        assert got.image.dtype == np.uint8

    @parameterized.parameters("tiff_lzw", "tiff_adobe_deflate", "packbits", "group4")
    def test_compressed_tiffs(self, compression):
        image = Image.fromarray(GREY > 90) if compression == "group4" else Image.fromarray(GREY)
        got = self.read(image_files.encoded(image, "TIFF", compression=compression))
        want = 255 * (GREY > 90) if compression == "group4" else GREY
        np.testing.assert_array_equal(got.image, want)

    @parameterized.product(dtype=["<u2", "<f4"], photometric=[0, 1])
    def test_more_than_eight_bits_are_stretched(self, dtype, photometric):
        pixels = (GREY.astype(float) ** 2 / 7 + 300).astype(dtype)
        got = self.read(tiff(pixels, photometric))
        want = np.interp(pixels, [pixels.min(), pixels.max()], [0, 255])
        # 0 is white in photometric interpretation 0.
        np.testing.assert_allclose(got.image, want if photometric else 255 - want, atol=0.51)

    def test_white_is_zero_in_eight_bits_too(self):
        np.testing.assert_array_equal(self.read(tiff(GREY, 0)).image, 255 - GREY)

    def test_floats_between_0_and_1_use_the_whole_range(self):
        got = self.read(tiff(np.array([[0.2, 0.3, 0.4]], np.float32), 1))
        np.testing.assert_allclose(got.image, [[0, 127.5, 255]], atol=0.51)

    @parameterized.parameters(("PNG", "L"), ("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "P"))
    def test_training_saw_the_same(self, kind, mode):
        noise = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
        got = self.read(image_files.encoded(Image.fromarray(noise).convert(mode), kind))
        np.testing.assert_array_equal(got.image, image_file.read_image(self.path))

    @parameterized.product(kind=["PNG", "JPEG", "TIFF"], orientation=list(range(1, 9)))
    def test_what_is_found_upright_goes_back_to_the_stored_grid(self, kind, orientation):
        stored = np.kron(GREY, np.ones((8, 8), np.uint8))  # Blocks of JPEG's own size survive it.
        exif = image_files.oriented(orientation)
        got = self.read(image_files.encoded(Image.fromarray(stored), kind, exif=exif))
        assert got.orientation == orientation
        upright = image_files.UPRIGHT[orientation](stored)
        np.testing.assert_allclose(got.image.astype(int), upright, atol=3)
        np.testing.assert_array_equal(pictures.to_stored(upright, got), stored)
        two = np.stack([upright, upright + 1], axis=-1)
        np.testing.assert_array_equal(pictures.to_stored(two, got)[..., 1], stored + 1)

    def test_an_orientation_that_means_nothing_is_none(self):
        exif = image_files.oriented(77)
        got = self.read(image_files.encoded(Image.fromarray(GREY), "PNG", exif=exif))
        assert got.orientation == 1

    def test_a_mask_of_another_size_is_refused(self):
        picture = self.read(image_files.encoded(Image.fromarray(GREY), "PNG"))
        with pytest.raises(ValueError, match=r"\(9, 6\) and image \(6, 9\) must agree"):
            pictures.to_stored(GREY.T, picture)


class RefusalTest(PictureTest):
    def assert_refused(self, content, match, max_pixels=MANY):
        with pytest.raises(ValueError, match=rf"a\.dat: {match}"):
            self.read(content, max_pixels)

    @parameterized.parameters("PNG", "JPEG", "TIFF")
    def test_the_limit_counts_before_anything_is_decoded(self, kind):
        whole = image_files.encoded(Image.fromarray(GREY), kind)
        assert self.read(whole, 54).image.shape == (6, 9)
        self.assert_refused(whole, "want at most 53 pixels, got 6 x 9", 53)

    @parameterized.parameters(30_000, 2**31 - 1)
    def test_bombs_are_not_decoded(self, width):
        header = struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)
        png = bytearray(image_files.encoded(Image.fromarray(GREY), "PNG"))
        png[16:29] = header
        png[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
        self.assert_refused(png, "want at most 10,000 pixels")
        self.assert_refused(tiff(GREY, 1, width), "(want at most 10,000 pixels|can't be decoded)")

    def test_pages(self):
        page = Image.fromarray(GREY)
        pages = image_files.encoded(page, "TIFF", save_all=True, append_images=[page])
        self.assert_refused(pages, "want one picture a file, got a TIFF of several pages")

    def test_pixels_that_are_no_numbers(self):
        pixels = np.array([[1, np.nan]], np.float32)
        self.assert_refused(tiff(pixels, 1), r"can't be decoded as TIFF \(want finite pixels")

    def test_other_content(self):
        want = "want a PNG, JPEG, TIFF, DICOM or NIfTI file, got"
        self.assert_refused(b"", f"{want} an empty one")
        self.assert_refused(b"GIF89a...", rf"{want} one that starts with b'GIF89a\.\.'")
        nifti = struct.pack("<i", 348) + bytes(340) + b"n+1\0"
        self.assert_refused(nifti, r"want a picture, got a volume \(NIfTI\)")

    def test_other_than_files(self):
        with pytest.raises(ValueError, match=r"a\.dat: want .* \(No such file"):
            pictures.read(self.path, MANY)
        with pytest.raises(ValueError, match=r"want .* \(a folder, a pipe or a device\)"):
            pictures.read(self.path.parent, MANY)
        os.mkfifo(self.path)  # Opening it would wait for ever.
        with pytest.raises(ValueError, match=r"want .* \(a folder, a pipe or a device\)"):
            pictures.read(self.path, MANY)


def whole_files():
    image = Image.fromarray(np.kron(GREY, np.ones((4, 4), np.uint8)))
    exif, encoded = image_files.oriented(6), image_files.encoded
    sixteen = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.3"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.SpecificCharacterSet, dataset.Modality = "ISO_IR 100", "CR"
    dataset.PatientOrientation, dataset.ImagerPixelSpacing = ["L", "F"], ["0.1", "0.1"]
    dataset.WindowCenter, dataset.WindowWidth = "100", "200"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.Rows, dataset.Columns = image.height, image.width
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = image.tobytes()
    dicom = io.BytesIO()
    dataset.save_as(dicom, enforce_file_format=True)
    return [
        encoded(image, "PNG"),
        encoded(image.convert("P"), "PNG", exif=exif),
        encoded(image, "JPEG"),
        encoded(image.convert("RGB"), "JPEG", exif=exif, progressive=True),
        encoded(sixteen, "TIFF", exif=exif),
        encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        dicom.getvalue(),
    ]


def spoilt(content, np_rng):
    content, start = bytearray(content), int(np_rng.integers(len(content)))
    early = int(np_rng.integers(min(len(content), 400)))
    kind = np_rng.integers(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        for place in np_rng.integers(0, len(content), 12):
            content[place] = np_rng.integers(256)
    elif kind == 2:
        content[early : early + 8] = np_rng.bytes(8)
    elif kind == 3:
        content[early : early + 4] = b"\x7f\xff\xff\xff"
    else:
        content[start : start + 64] = b"\xff" * 64
    return content


class DamageTest(PictureTest):
    def test_damage_is_one_sentence_with_the_files_name_or_an_honest_picture(self):
        np_rng = np.random.default_rng(0)
        num_refused = 0
        for content in whole_files():
            assert self.read(content).image.dtype == np.uint8
            for _ in range(45):
                try:
                    picture = self.read(spoilt(content, np_rng))
                    assert picture.image.dtype == np.uint8
                    assert 0 < picture.image.size <= MANY
                except ValueError as error:
                    num_refused += 1
                    sentence = str(error)
                    assert sentence.startswith(f"{self.path}: ")
                    assert "\n" not in sentence
                    assert len(sentence) < len(str(self.path)) * 2 + 300
        assert num_refused > 100


class LimitTest(PictureTest):
    def test_pillows_own_limit_does_not_come_before_ours(self):
        content, before = image_files.encoded(Image.fromarray(GREY), "PNG"), Image.MAX_IMAGE_PIXELS
        with pictures.limit(10):
            with pytest.raises(ValueError, match="want at most 20 pixels, got more"):
                self.read(content, MANY)
            with pictures.limit(GREY.size):
                np.testing.assert_array_equal(self.read(content, GREY.size).image, GREY)
            assert Image.MAX_IMAGE_PIXELS == 10
        assert before == Image.MAX_IMAGE_PIXELS


class QuietTest(PictureTest):
    @pytest.fixture(autouse=True)
    def with_output(self, capfd):
        self.capfd = capfd

    def test_libtiff_prints_nothing(self):
        whole = image_files.encoded(Image.fromarray(GREY), "TIFF", compression="tiff_lzw")
        with pytest.raises(ValueError, match="can't be decoded as TIFF"):
            self.read(whole[:8] + bytes(12) + whole[20:])
        assert self.capfd.readouterr().err == ""

    def test_settings_come_back_when_the_last_thread_has_left(self):
        content = whole_files()[-1]
        self.path.write_bytes(content)
        before = list(warnings.filters), pydicom.config.settings.reading_validation_mode
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(pictures.read, self.path, MANY) for _ in range(40)]
            assert all(job.result().image.any() for job in jobs)
        assert before == (
            list(warnings.filters),
            pydicom.config.settings.reading_validation_mode,
        )

    def test_inside_warnings_are_held_back_until_the_last_has_left(self):
        with quiet.region():
            with quiet.region():
                pass
            warnings.warn("not heard", stacklevel=1)
        with pytest.raises(UserWarning, match="heard"):
            warnings.warn("heard", stacklevel=1)
