"""Image files of every kind, against the arrays they were written from."""

import io

import numpy as np
import pytest
from absl.testing import parameterized
from PIL import Image

from jaxlung.image import image_file
from tests.image import deep_pngs, image_files

GREY = np.array([[0, 50, 200], [255, 7, 90]], np.uint8)
MASK = np.array([[0, 1, 1], [0, 0, 1]], bool)


def rgba_over(values, alpha):
    pixels = np.stack([values, values, values, np.broadcast_to(alpha, values.shape)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def palette_image(indices, colours):
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(np.ravel(colours).tolist())
    return image


class FileTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.path = tmp_path / "a.png"

    def read_image(self, image, **options):
        image.save(self.path, **options)
        return image_file.read_image(self.path)

    def read_mask(self, image, levels=(), **options):
        image.save(self.path, **options)
        return image_file.read_mask(self.path, levels)


class ReadImageTest(FileTest):
    @parameterized.named_parameters(
        ("L", lambda: Image.fromarray(GREY)),
        ("RGB", lambda: Image.fromarray(GREY).convert("RGB")),
        ("LA", lambda: Image.fromarray(GREY).convert("LA")),
        ("RGBA", lambda: Image.fromarray(GREY).convert("RGBA")),
        ("P", lambda: Image.fromarray(GREY).convert("P")),
    )
    def test_grey_comes_back_whatever_the_mode(self, make):
        got = self.read_image(make())
        np.testing.assert_array_equal(got, GREY)
        assert got.dtype == np.uint8

    def test_one_bit_becomes_black_and_white(self):
        np.testing.assert_array_equal(self.read_image(Image.fromarray(MASK)), 255 * MASK)

    @parameterized.parameters((1000, 5000), (0, 65535), (40_000, 40_001))
    def test_sixteen_bits_are_stretched_by_the_image_itself(self, low, high):
        values = np.linspace(low, high, 12).reshape(3, 4).astype(np.uint16)
        got = self.read_image(Image.fromarray(values))
        want = np.interp(values, [low, high], [0, 255])
        np.testing.assert_allclose(got, want, atol=0.5)

    def test_a_constant_sixteen_bit_image_is_black(self):
        assert not self.read_image(Image.fromarray(np.full((2, 2), 999, np.uint16))).any()

    def test_colour_becomes_luminance(self):
        red_green_blue = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
        got = self.read_image(Image.fromarray(red_green_blue))
        np.testing.assert_allclose(got, [[0.299 * 255, 0.587 * 255, 0.114 * 255]], atol=0.5)

    def test_transparency_shows_black(self):
        got = self.read_image(rgba_over(GREY, 255 * MASK))
        np.testing.assert_array_equal(got, GREY * MASK)

    def test_a_transparent_palette_entry_shows_black(self):
        image = palette_image(np.array([[0, 1, 2]]), [[255] * 3, [9] * 3, [70] * 3])
        got = self.read_image(image, transparency=bytes([0, 255, 255]))
        np.testing.assert_array_equal(got, [[0, 9, 70]])

    @parameterized.product(suffix=[".png", ".jpg"], orientation=list(range(1, 9)))
    def test_exif_orientation_is_honoured(self, suffix, orientation):
        # Blocks of JPEG's own size survive it.
        stored = np.kron(GREY, np.ones((8, 8), np.uint8))
        self.path = self.path.with_suffix(suffix)
        exif = image_files.oriented(orientation)
        got = self.read_image(Image.fromarray(stored), exif=exif)
        upright = image_files.UPRIGHT[orientation](stored)
        np.testing.assert_allclose(got.astype(int), upright, atol=3)
        header = image_file.read_header(self.path)
        assert (header.height, header.width) == got.shape
        assert header.is_lossy == (suffix == ".jpg")


class ReadMaskTest(FileTest):
    @parameterized.named_parameters(
        ("0 and 1", lambda: Image.fromarray(MASK.astype(np.uint8))),
        ("0 and 255", lambda: Image.fromarray(255 * MASK.astype(np.uint8))),
        ("1 bit", lambda: Image.fromarray(MASK)),
        ("16 bit", lambda: Image.fromarray(65535 * MASK.astype(np.uint16))),
        ("RGB", lambda: Image.fromarray(255 * MASK.astype(np.uint8)).convert("RGB")),
        ("painted on nothing", lambda: rgba_over(np.full(MASK.shape, 255), 255 * MASK)),
        ("palette of greys", lambda: palette_image(1 - MASK, [[255] * 3, [0] * 3])),
        ("palette of colours", lambda: palette_image(MASK, [[0] * 3, [128, 0, 0]])),
        ("soft edge", lambda: Image.fromarray(np.arange(0, 240, 10, np.uint8).reshape(2, 12))),
    )
    def test_binary_masks_of_every_kind(self, make):
        image = make()
        want = MASK if image.size == (3, 2) else np.arange(24).reshape(2, 12) > 11.5
        got = self.read_mask(image)
        np.testing.assert_array_equal(got, want)
        assert got.dtype == bool

    def test_an_all_zero_mask_is_empty_and_a_full_one_full(self):
        zeros = np.zeros((3, 4), np.uint8)
        assert not self.read_mask(Image.fromarray(zeros)).any()
        assert self.read_mask(Image.fromarray(zeros + 1)).all()

    def test_a_jpeg_mask_is_cut_at_half_of_the_range(self):
        self.path = self.path.with_suffix(".jpg")
        blocks = np.kron(MASK, np.ones((8, 8))).astype(np.uint8)
        np.testing.assert_array_equal(self.read_mask(Image.fromarray(255 * blocks)), blocks > 0)

    @parameterized.parameters(((1, 2), [0, 1, 1]), ((2,), [0, 0, 1]), ((0,), [1, 0, 0]))
    def test_levels_choose_what_is_foreground(self, levels, want):
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
        np.testing.assert_array_equal(self.read_mask(image, levels), [want])

    def test_levels_are_indices_of_a_palette_of_colours(self):
        image = palette_image(np.array([[0, 1, 2]]), [[0] * 3, [128, 0, 0], [0, 128, 0]])
        np.testing.assert_array_equal(self.read_mask(image, (2,)), [[0, 0, 1]])

    def test_levels_without_their_meaning_are_listed(self):
        with pytest.raises(
            ValueError, match=r"a\.png: .*levels 0,125,255; .*foreground_levels=125,255"
        ):
            self.read_mask(Image.fromarray(np.array([[0, 125, 255]], np.uint8)))

    def test_levels_of_a_jpeg_are_refused(self):
        self.path = self.path.with_suffix(".jpg")
        with pytest.raises(ValueError, match=r"a\.jpg: .*\(125, 255\) need a PNG mask, got JPEG"):
            self.read_mask(Image.fromarray(GREY), (125, 255))


ROW, COLUMN = np.mgrid[:96, :96]
DISC = np.hypot(ROW - 40, COLUMN - 50) < 25
LABELS = DISC + np.uint8(DISC & (COLUMN > 50))  # 0, 1, 2
HALVES = COLUMN[:64, :64] < 32
ZERO = np.zeros(DISC.shape, np.uint8)


def drawn(*colour, on=ZERO[..., None]):
    """The disc in a colour."""
    return np.where(DISC[..., None], np.array(colour, np.uint8), on).astype(np.uint8)


def resaved(image):
    """What a JPEG leaves of an image, saved as PNG since."""
    return Image.open(io.BytesIO(image_files.encoded(Image.fromarray(image), "JPEG", quality=90)))


class MaskKindTest(FileTest):
    """The same disc, drawn in every way, is foreground or the file is named."""

    def assert_disc(self, atol=0.0):
        assert np.mean(image_file.read_mask(self.path, ()) != DISC) <= atol

    def refuses(self, image, match):
        with pytest.raises(ValueError, match=rf"a\.(png|jpg): {match}"):
            self.read_mask(image if isinstance(image, Image.Image) else Image.fromarray(image))

    @parameterized.product(channels=[1, 2, 3, 4], value=[1, 255, 4095, 65535])
    def test_sixteen_bits(self, channels, value):
        planes = [DISC * np.uint16(value)] * (1 if channels < 3 else 3)
        planes += [np.full(DISC.shape, 65535, np.uint16)] * (channels % 2 == 0)
        self.path.write_bytes(deep_pngs.encoded(np.dstack(planes)))
        self.assert_disc()

    @parameterized.parameters(
        ((255, 0, 0), 0.01), ((0, 0, 255), 0.01), ((90, 200, 10), 0.01), ((128, 0, 0), 0.01)
    )
    def test_any_colour_on_black(self, colour, atol):
        image = drawn(*colour)
        for kind, array in (("RGB", image), ("RGBA", np.dstack([image, ZERO + 255]))):
            Image.fromarray(array, kind).save(self.path)
            self.assert_disc()
        Image.fromarray(image).quantize(2).save(self.path)
        self.assert_disc()
        resaved(image).save(self.path)
        self.assert_disc(atol)
        self.path = self.path.with_suffix(".jpg")
        Image.fromarray(image).save(self.path, quality=75)
        self.assert_disc(atol)

    @parameterized.product(colour=[0, 1, 255], opacity=[1, 128, 255])
    def test_anything_on_nothing(self, colour, opacity):
        alpha = DISC * np.uint8(opacity)
        Image.fromarray(np.dstack([ZERO + np.uint8(colour)] * 3 + [alpha])).save(self.path)
        self.assert_disc()
        Image.fromarray(np.dstack([ZERO + np.uint8(colour), alpha]), "LA").save(self.path)
        self.assert_disc()

    def test_the_faintest_colour_stays_where_it_is_not_quite_opaque(self):
        alpha = np.where(ROW < 40, 254, 255) * DISC
        Image.fromarray(np.dstack([ZERO + 1] * 3 + [alpha.astype(np.uint8)])).save(self.path)
        self.assert_disc()

    @parameterized.parameters(30, 75, 90, 97, 100)
    def test_fringes_of_a_jpeg_count_on_their_own_side(self, quality):
        content = image_files.encoded(
            Image.fromarray(DISC * np.uint8(255)), "JPEG", quality=quality
        )
        self.path.with_suffix(".jpg").write_bytes(content)
        Image.open(io.BytesIO(content)).save(self.path)
        for path in (self.path, self.path.with_suffix(".jpg")):
            np.testing.assert_array_equal(image_file.read_mask(path, ()), DISC)

    @parameterized.parameters(75, 90, 100)
    def test_a_jpeg_of_0_and_1_is_read_where_it_still_is_one(self, quality):
        self.path = self.path.with_suffix(".jpg")
        got = self.read_mask(Image.fromarray(HALVES.astype(np.uint8)), quality=quality)
        np.testing.assert_array_equal(got, HALVES)

    def test_a_palette_without_order_has_its_background_in_black(self):
        image = palette_image(1 - DISC, [[255, 0, 0], [0, 0, 0]])
        np.testing.assert_array_equal(self.read_mask(image), DISC)

    def test_a_palette_of_nothing_but_black_is_no_empty_mask(self):
        black = palette_image(DISC, [[0, 0, 0], [0, 0, 0]])
        with pytest.raises(ValueError, match=r"a\.png: .* all of the indices 0,1 are black"):
            self.read_mask(black)
        assert not self.read_mask(palette_image(0 * DISC, [[0, 0, 0], [0, 0, 0]])).any()
        np.testing.assert_array_equal(self.read_mask(black, transparency=b"\0\xff"), DISC)

    @parameterized.parameters(3, 6)
    def test_soft_edges_are_cut_at_half(self, steepness):
        soft = np.clip(128 + (25 - np.hypot(ROW - 40, COLUMN - 50)) * steepness, 0, 255)
        got = self.read_mask(Image.fromarray(soft.astype(np.uint8)))
        np.testing.assert_array_equal(got, soft.astype(np.uint8) > soft.max() / 2)

    def test_what_could_mean_two_things_is_named(self):
        two = np.where((LABELS == 2)[..., None], [0, 255, 0], drawn(255, 0, 0)).astype(np.uint8)
        self.refuses(LABELS, "want a binary mask, got the levels 0,1,2; .*=1,2$")
        self.refuses(127 * LABELS, "want a binary mask, got the levels 0,127,254")
        self.refuses(resaved(127 * LABELS), "want a binary mask, got areas of 112 to 128 between")
        self.refuses(np.where(ROW, DISC, 255).astype(np.uint8), "want a .* the levels 0,1,255;")
        self.refuses((COLUMN // 5).astype(np.uint8), r"want .* levels 0,1,2,3,4,5,\.\.\.,19;")
        self.refuses((DISC + 254).astype(np.uint8), "want a background of 0, got the levels 254,")
        self.refuses(two, "want a mask in one colour on black, got several colours")
        self.refuses(resaved(two), "want a mask in one colour on black, got several colours")
        self.refuses(drawn(255, 0, 0, on=[255] * 3), "want a mask in one colour on black")
        purple = np.full((8, 8, 3), [68, 1, 84], np.uint8)
        self.refuses(purple, "want a mask on black, got one colour all over")
        hidden = np.dstack([drawn(255, 255, 255), ZERO])
        self.refuses(hidden, "want an opaque mask, got one that is all transparent")

    def test_what_a_jpeg_has_lost_is_named(self):
        self.path = self.path.with_suffix(".jpg")
        self.refuses(3 * DISC.astype(np.uint8), "want 0 and 255 in a JPEG mask, got")
        self.refuses(127 * LABELS, "want a binary mask, got areas of")

    def test_levels_choose_among_those_of_one_colour(self):
        image = Image.fromarray(np.dstack([LABELS, ZERO, ZERO]))
        np.testing.assert_array_equal(self.read_mask(image, (2,)), LABELS == 2)
        one = np.uint8(1)
        with pytest.raises(ValueError, match="several colours"):
            self.read_mask(Image.fromarray(np.dstack([LABELS == 1, LABELS == 2, ZERO]) * one), (1,))


class DamageTest(FileTest):
    @parameterized.product(suffix=[".png", ".jpg"], kept=[0.0, 0.01, 0.1, 0.5, 0.9])
    def test_a_truncated_file_is_named(self, suffix, kept):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        kind = {".png": "PNG", ".jpg": "JPEG"}[suffix]
        whole = image_files.encoded(Image.fromarray(noise), kind)
        path = self.path.with_suffix(suffix)
        path.write_bytes(whole[: int(kept * len(whole))])
        for read in (image_file.read_image, lambda path: image_file.read_mask(path, ())):
            with pytest.raises(ValueError, match=rf"a\{suffix}: can't be decoded as PNG or JPEG"):
                read(path)

    @parameterized.product(seed=list(range(40)))
    def test_a_damaged_png_is_named(self, seed):
        np_rng = np.random.default_rng(seed)
        Image.fromarray(np_rng.integers(0, 256, (32, 32), np.uint8)).save(self.path)
        content = bytearray(self.path.read_bytes())
        start = int(np_rng.integers(0, len(content) - 20))
        content[start : start + 20] = np_rng.bytes(20)
        self.path.write_bytes(content)
        with pytest.raises(ValueError, match="can't be decoded"):
            image_file.read_image(self.path)

    def test_another_format_under_the_name_is_refused(self):
        Image.fromarray(GREY).save(self.path, "gif")
        with pytest.raises(ValueError, match="can't be decoded as PNG or JPEG"):
            image_file.read_header(self.path)

    def test_a_missing_file_stays_that(self):
        with pytest.raises(FileNotFoundError):
            image_file.read_image(self.path)
