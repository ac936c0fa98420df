"""Resizing against Pillow, against geometry worked by hand, and there and back."""

import numpy as np
import pytest
from absl.testing import parameterized
from PIL import Image

from jaxlung.data import record
from jaxlung.data.transforms import resize
from jaxlung.exported import reader

SIZES = [(300, 90), (90, 300), (251, 127), (7, 5), (64, 64), (200, 199), (13, 64)]


def disc(height, width):
    """A smooth shape, off the centre; True inside."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (rows / height - 0.45) ** 2 + (columns / width - 0.55) ** 2 < 0.3**2


def dice(preds, masks):
    return 2 * np.sum(preds & masks) / (preds.sum() + masks.sum())


class FitTest(parameterized.TestCase):
    @parameterized.product(shape=[(90, 50), (40, 100), (31, 31)])
    def test_squash_matches_pillow(self, shape):
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        got, _ = resize.fit(image, np.zeros(shape, np.uint8), 48, "squash")
        want = Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR)
        # Pillow may take columns first, and rounds in between.
        np.testing.assert_allclose(got.astype(int), want, atol=1)

    @parameterized.product(
        shape=[(1024, 900), (300, 90), (90, 300), (31, 200), (7, 5), (64, 65)],
        how=["squash", "pad"],
    )
    def test_is_the_exported_networks_resize_to_the_bit(self, shape, how):
        # NumPy, rows first: what is not so in one call of Pillow 13.
        np_rng = np.random.default_rng(0)
        image = np_rng.integers(0, 256, shape, np.uint8)
        lungs = np_rng.random(shape) > 0.5
        fitted, mask = resize.fit(image, lungs * np.uint8(record.LUNG), 64, how)
        np.testing.assert_array_equal(fitted, reader.fit(image, 64, how))
        np.testing.assert_array_equal(mask, reader.fit_mask(lungs, 64, how))
        probs = np_rng.random((64, 64), np.float32)
        want = reader.unfit(probs, *shape, how)
        np.testing.assert_array_equal(resize.unfit(probs, *shape, how), want)

    def test_halving_averages_as_worked_by_hand(self):
        # A triangle over four pixels: weights 1, 3, 3, 1 of 8, cut off at the edge.
        image = np.tile(np.array([0, 80, 160, 240], np.uint8), (4, 1))
        got, _ = resize.fit(image, np.zeros((4, 4), np.uint8), 2, "squash")
        want = [(3 * 0 + 3 * 80 + 160) / 7, (80 + 3 * 160 + 3 * 240) / 7]
        np.testing.assert_allclose(got, [want, want], atol=0.51)

    def test_a_mask_pixel_needs_more_than_half(self):
        # With weights 1, 3, 3, 1 of 8 the columns from 3 on are half of output column 1.
        mask = np.zeros((8, 8), np.uint8)
        mask[:, 3:] = record.LUNG
        np.testing.assert_array_equal(resize.fit(mask, mask, 4, "squash")[1], [[0, 0, 1, 1]] * 4)
        # One pixel in eight more tips it over.
        mask[:, 1] = record.LUNG
        np.testing.assert_array_equal(resize.fit(mask, mask, 4, "squash")[1], [[0, 1, 1, 1]] * 4)

    @parameterized.parameters(
        ((100, 50), slice(0, 40), slice(10, 30)),
        ((50, 100), slice(10, 30), slice(0, 40)),
        ((20, 10), slice(0, 40), slice(10, 30)),
        ((100, 49), slice(0, 40), slice(10, 30)),  # 19.6 columns are 20
        ((1, 1000), slice(19, 20), slice(0, 40)),
        ((3000, 2), slice(0, 40), slice(19, 20)),
    )
    def test_pad_centres_and_fills_with_the_minimum(self, shape, rows, columns):
        image = np.random.default_rng(0).integers(100, 200, shape, np.uint8)
        got_image, got_mask = resize.fit(image, np.full(shape, 3, np.uint8), 40, "pad")
        inside = np.zeros((40, 40), bool)
        inside[rows, columns] = True
        np.testing.assert_array_equal(got_mask, np.where(inside, 3, 0))
        assert np.all(got_image[~inside] == image.min())
        size = (columns.stop - columns.start, rows.stop - rows.start)
        want = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        np.testing.assert_allclose(got_image[rows, columns].astype(int), want, atol=1)

    def test_each_bit_is_resized_by_itself(self):
        lung, infection = disc(90, 70), disc(90, 70)[::-1]
        both = lung * np.uint8(record.LUNG) + infection * np.uint8(record.INFECTION)
        image = np.zeros(both.shape, np.uint8)
        _, got = resize.fit(image, both, 32, "pad")
        for bit, alone in ((record.LUNG, lung), (record.INFECTION, infection)):
            _, want = resize.fit(image, alone * np.uint8(bit), 32, "pad")
            np.testing.assert_array_equal(got & bit, want)

    @parameterized.parameters("squash", "pad")
    def test_the_right_size_comes_back_as_it_is(self, how):
        image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
        mask = image % 4
        got_image, got_mask = resize.fit(image, mask, 32, how)
        np.testing.assert_array_equal(got_image, image)
        np.testing.assert_array_equal(got_mask, mask)

    def test_arguments_stay_as_they_are(self):
        image, mask = np.full((9, 5), 7, np.uint8), np.full((9, 5), 3, np.uint8)
        resize.fit(image, mask, 16, "pad")
        assert np.all(image == 7)
        assert np.all(mask == 3)


class UnfitTest(parameterized.TestCase):
    @parameterized.product(shape=SIZES, how=["squash", "pad"], size=[64, 96])
    def test_there_and_back_is_the_same_shape(self, shape, how, size):
        want = disc(*shape)
        image, mask = resize.fit(255 * want.astype(np.uint8), want.astype(np.uint8), size, how)
        probs = resize.unfit(image.astype(np.float32) / 255, *shape, how)
        assert probs.shape == shape
        assert probs.dtype == np.float32
        assert dice(probs > 0.5, want) > 0.98
        # A mask has no soft edge: one pixel of a disc 11 pixels wide is worth more.
        probs = resize.unfit(mask.astype(np.float32), *shape, how)
        assert dice(probs > 0.5, want) > 0.96

    @parameterized.product(shape=SIZES, how=["squash", "pad"])
    def test_positions_agree_to_less_than_a_pixel(self, shape, how):
        grid = np.meshgrid(*(np.linspace(0, 255, length) for length in shape), indexing="ij")
        # The outer quarters feel the padding and the edge.
        middle = tuple(slice(length // 4, length - length // 4) for length in shape)
        for length, ramp in zip(shape, grid, strict=True):
            # A ramp tells at every pixel where it came from.
            image = np.rint(ramp).astype(np.uint8)
            fitted, _ = resize.fit(image, np.zeros(shape, np.uint8), 64, how)
            back = resize.unfit(fitted.astype(np.float32), *shape, how)
            levels_per_pixel = 255 / (length - 1)
            # Two roundings to 8 bits cost a level between them.
            assert np.abs(back - ramp)[middle].max() < 0.3 * levels_per_pixel + 1

    def test_channels_are_brought_back_one_by_one(self):
        probs = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
        got = resize.unfit(probs, 50, 21, "pad")
        assert got.shape == (50, 21, 3)
        for channel in range(3):
            want = resize.unfit(probs[..., channel], 50, 21, "pad")
            np.testing.assert_array_equal(got[..., channel], want)

    @parameterized.product(shape=[(1, 1000), (1000, 1), (1, 1)], how=["squash", "pad"])
    def test_extreme_shapes_come_back(self, shape, how):
        ones = np.ones(shape, np.uint8)
        _, mask = resize.fit(ones, ones, 16, how)
        assert mask.any()
        np.testing.assert_allclose(resize.unfit(mask.astype(np.float32), *shape, how), 1)


class ErrorTest(parameterized.TestCase):
    def test_bad_arguments_are_named(self):
        image = np.zeros((4, 5), np.uint8)
        with pytest.raises(ValueError, match="want one of squash, pad, got 'crop'"):
            resize.fit(image, image, 8, "crop")
        with pytest.raises(ValueError, match="want one of squash, pad, got 'crop'"):
            resize.unfit(np.zeros((8, 8), np.float32), 4, 5, "crop")
        with pytest.raises(ValueError, match=r"\(4, 5\) and mask \(5, 4\)"):
            resize.fit(image, image.T, 8, "pad")
        with pytest.raises(ValueError, match=r"want \[S, S\].*got \(8, 9\)"):
            resize.unfit(np.zeros((8, 9), np.float32), 4, 5, "pad")
