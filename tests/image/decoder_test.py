"""16 bits a channel, signed bytes and bounds, against the arrays that were written."""

import io
import os
import struct
import time
import zlib

import numpy as np
import pytest
from absl.testing import parameterized
from PIL import Image

from jaxlung.image import decoder, image_file
from jaxlung.predict import pictures
from tests.image import deep_pngs, image_files

MANY = 100_000
GREY = np.random.default_rng(0).integers(300, 4096, (6, 9)).astype(np.uint16)  # 12 bits
COLOURS = np.random.default_rng(1).integers(0, 4096, (6, 9, 3)).astype(np.uint16)
FULL = np.full(GREY.shape, 65535, np.uint16)


def stretched(values):
    return np.interp(values, [values.min(), values.max()], [0, 255])


def tiff(pixels, photometric, order="<", *more, compression=1):
    """A file of one strip, by the TIFF 6.0 standard; `more` are tags."""
    height, width, channels = pixels.shape
    strip = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    strip = zlib.compress(strip) if compression == 8 else strip
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits_at = 8 + len(strip)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits_at)]
    tags += [(259, 4, 1, compression), (262, 4, 1, photometric), (273, 4, 1, 8)]
    tags += [(277, 4, 1, channels), (278, 4, 1, height), (279, 4, 1, len(strip))]
    tags = sorted([*tags, *more, (339, 4, 1, kind)])
    bits = struct.pack(f"{order}{channels}H", *[8 * pixels.itemsize] * channels)
    if channels < 3:  # They stand in the tag itself.
        (value,) = struct.unpack(f"{order}I", bits.ljust(4, b"\0"))
        tags[2] = (258, 3, channels, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", bits_at + len(bits))
    entries = b"".join(struct.pack(f"{order}HHII", *tag) for tag in tags)
    return head + strip + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


class FileTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.path = tmp_path / "a.png"

    def predicted(self, content):
        self.path.write_bytes(content)
        return pictures.read(self.path, MANY).image

    def assert_refused(self, content, match):
        with pytest.raises(ValueError, match=match) as caught:
            self.predicted(content)
        assert str(caught.value).startswith(f"{self.path}: ")
        assert "\n" not in str(caught.value)


class DeepColourTest(FileTest):
    @parameterized.parameters(1, 2, 3, 4)
    def test_a_grey_png_is_stretched_whatever_its_channels(self, channels):
        planes = [GREY] * (1 if channels < 3 else 3) + [FULL] * (channels % 2 == 0)
        got = self.predicted(deep_pngs.encoded(np.dstack(planes)))
        np.testing.assert_allclose(got, stretched(GREY), atol=0.5)
        np.testing.assert_array_equal(image_file.read_image(self.path), got)
        assert len(np.unique(got)) > 40

    @parameterized.product(order=["<", ">"], compression=[1, 8])
    def test_a_grey_tiff_is_stretched_whatever_its_channels(self, order, compression):
        options = dict(compression=compression)
        contents = [
            tiff(GREY[..., None], 1, order, **options),
            tiff(np.dstack([GREY] * 3), 2, order, **options),
            tiff(np.dstack([GREY] * 3 + [FULL]), 2, order, (338, 4, 1, 2), **options),
        ]
        if order == "<":  # Older Pillows have no CMYK of the other order.
            inks = np.dstack([0 * GREY] * 3 + [65535 - GREY])
            contents.append(tiff(inks, 5, order, **options))
        for content in contents:
            np.testing.assert_allclose(self.predicted(content), stretched(GREY), atol=0.51)

    def test_colours_become_luminance_before_they_are_stretched(self):
        want = stretched(COLOURS @ np.array([0.299, 0.587, 0.114]))
        for content in (deep_pngs.encoded(COLOURS), tiff(COLOURS, 2)):
            np.testing.assert_allclose(self.predicted(content), want, atol=0.51)

    def test_transparency_shows_black(self):
        alpha = FULL * (GREY % 2)
        want = stretched(GREY * (GREY % 2).astype(float))
        for planes in ([GREY, alpha], [GREY, GREY, GREY, alpha]):
            got = self.predicted(deep_pngs.encoded(np.dstack(planes)))
            np.testing.assert_allclose(got, want, atol=0.5)
        one = deep_pngs.chunk(b"tRNS", struct.pack(">HHH", *[int(GREY[2, 3])] * 3))
        got = self.predicted(deep_pngs.encoded(np.dstack([GREY] * 3), one))
        want = stretched(np.where(GREY[2, 3] == GREY, 0.0, GREY))
        np.testing.assert_allclose(got, want, atol=0.5)

    @parameterized.parameters(2, 3, 4)
    def test_orientation_is_honoured(self, channels):
        planes = [GREY] * (1 if channels < 3 else 3) + [FULL] * (channels % 2 == 0)
        exif = deep_pngs.chunk(b"eXIf", image_files.oriented(6).tobytes()[6:])
        got = self.predicted(deep_pngs.encoded(np.dstack(planes), exif))
        np.testing.assert_allclose(got, image_files.UPRIGHT[6](stretched(GREY)), atol=0.5)
        assert pictures.read(self.path, MANY).orientation == 6

    def test_a_damaged_file_is_named(self):
        whole = deep_pngs.encoded(COLOURS)
        self.assert_refused(whole[:-40], "can't be decoded as PNG")

    def test_separate_planes_are_said_not_to_be_supported(self):
        planes = np.moveaxis(COLOURS, 2, 0).reshape(COLOURS.shape)
        self.assert_refused(tiff(planes, 2, "<", (284, 3, 1, 2)), "separate planes is not supp")


class TiffTest(FileTest):
    def test_signed_bytes_are_signed(self):
        values = np.arange(-128, 128).reshape(16, 16)
        got = self.predicted(tiff(values[..., None].astype(np.int8), 1))
        np.testing.assert_array_equal(got, values + 128)

    @parameterized.parameters(
        ("f8", 1, "64-bit floating point"),
        ("u8", 1, "64-bit unsigned integers"),
        ("i8", 1, "64-bit signed integers"),
        ("i1", 0, r"8-bit signed integers \(photometric interpretation 0\)"),
    )
    def test_what_is_not_supported_is_not_called_damaged(self, dtype, photometric, what):
        content = tiff(np.arange(54).reshape(6, 9, 1).astype(dtype), photometric)
        self.assert_refused(content, f"a TIFF of {what}.* is not supported")

    def test_jpeg_2000_is_named(self):
        content = tiff(GREY[..., None], 1, compression=34712)
        self.assert_refused(content, "a TIFF with JPEG 2000 is not supported")


class BoundTest(FileTest):
    def test_a_palette_that_is_missing_is_said(self):
        head = struct.pack(">IIBBBBB", 8, 4, 8, 3, 0, 0, 0)
        pixels = deep_pngs.chunk(b"IDAT", zlib.compress(bytes(9 * 4)))
        content = b"\x89PNG\r\n\x1a\n" + deep_pngs.chunk(b"IHDR", head) + pixels
        self.assert_refused(content + deep_pngs.chunk(b"IEND", b""), "it has no palette")
        for read in (image_file.read_image, lambda path: image_file.read_mask(path, ())):
            with pytest.raises(ValueError, match=r"a\.png: can't be decoded .*no palette"):
                read(self.path)

    @parameterized.parameters(0, 1_500_000)
    def test_a_colour_profile_is_no_matter(self, size):
        image = Image.fromarray(np.uint8(GREY >> 4))
        profile = np.random.default_rng(0).bytes(size)
        got = self.predicted(image_files.encoded(image, "PNG", icc_profile=profile))
        np.testing.assert_array_equal(got, np.asarray(image))

    @parameterized.parameters(b"iCCP", b"zTXt")
    def test_a_profile_that_unpacks_beyond_bounds_is_refused(self, kind):
        packed = zlib.compressobj()
        content = b"".join([packed.compress(bytes(2**20)) for _ in range(20)] + [packed.flush()])
        bomb = deep_pngs.chunk(kind, b"a\0\0" + content)
        self.assert_refused(
            deep_pngs.encoded(COLOURS, bomb), "can't be decoded as PNG .*(?i:too large)"
        )

    def test_a_jpeg_of_very_many_scans_is_refused_at_once(self):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        whole = image_files.encoded(Image.fromarray(noise), "JPEG", progressive=True)
        assert self.predicted(whole).shape == (64, 64)
        start = whole.rindex(b"\xff\xda")
        many = whole[:start] + whole[start:-2] * 3000 + whole[-2:]
        before = time.monotonic()
        self.assert_refused(many, "want a JPEG of at most 100 scans, got 3,0")
        assert time.monotonic() - before < 2

    def test_a_pipe_is_not_waited_for(self):
        os.mkfifo(self.path)
        with pytest.raises(ValueError, match=r"a\.png: want a file, got .* a pipe"):
            image_file.read_image(self.path)

    def test_another_open_file_has_the_name_that_it_is_given(self):
        with (
            pytest.raises(ValueError, match=r"^a\.zip: b\.png: can't be decoded as an image"),
            decoder.opened(io.BytesIO(b"GIF89a"), "a.zip: b.png", None),
        ):
            pass
