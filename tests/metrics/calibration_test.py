"""Calibration errors against scikit-learn's curve, and cases by hand."""

import functools
import math

import numpy as np
import pytest
from absl.testing import parameterized
from sklearn import calibration as sklearn_calibration

from jaxlung.metrics import calibration


def draw(shape, seed=0, power=1.0):
    """Levels that come up as often as the square of their probability says: not calibrated."""
    np_rng = np.random.default_rng(seed)
    probs = np_rng.random(shape, np.float32) ** np.float32(power)
    return (np_rng.random(shape) < probs**2).astype(np.uint8), probs


class CountTest(parameterized.TestCase):
    def test_bins_hold_their_lower_edges_and_1(self):
        probs = np.float32([0, 0.066, 0.067, 1 / 3 + 1e-7, 0.5, 0.9334, 1])
        counts, sums = calibration.count(np.uint8([0, 1, 0, 1, 1, 1, 1]), probs)
        want = np.zeros((15, 2), int)
        for at, level in ((0, 0), (0, 1), (1, 0), (5, 1), (7, 1), (14, 1), (14, 1)):
            want[at, level] += 1
        np.testing.assert_array_equal(counts, want)
        np.testing.assert_allclose(sums[[0, 1, 5, 14]], [0.066, 0.067, 1 / 3, 1.9334], atol=1e-5)

    def test_a_volume_loses_nothing_that_all_voxels_share(self):
        """One by one in float32, the sum would go astray."""
        probs = np.full((8, 512, 512), 0.1, np.float32)
        counts, sums = calibration.count(np.ones(probs.shape, bool), probs)
        assert counts[1].tolist() == [0, probs.size]
        np.testing.assert_allclose(sums[1], probs.size * 0.1, rtol=1e-7)

    def test_nothing_is_counted_as_nothing(self):
        counts, sums = calibration.count(np.empty(0, np.uint8), np.empty(0, np.float32))
        assert (counts.shape, counts.sum(), sums.sum()) == ((15, 2), 0, 0)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match=r"levels \(2, 3\) and probs \(3, 2\) must agree"):
            calibration.count(np.zeros((2, 3), int), np.zeros((3, 2)))


class ErrorsTest(parameterized.TestCase):
    @parameterized.product(seed=[0, 1], power=[1, 9])
    def test_are_those_of_sklearns_curve(self, seed, power):
        levels, probs = draw((60, 50), seed, power)
        got = calibration.errors(*calibration.count(levels, probs))
        shares, means = sklearn_calibration.calibration_curve(
            levels.ravel(), probs.ravel(), n_bins=15, strategy="uniform"
        )
        pixels = np.histogram(probs, np.linspace(0, 1, 16))[0]
        gaps = np.abs(shares - means)
        np.testing.assert_allclose(got["ace"], gaps.mean(), atol=1e-6)
        weighted = np.average(gaps, weights=pixels[pixels > 0])
        np.testing.assert_allclose(got["ece"], weighted, atol=1e-6)

    @parameterized.parameters((0.8, 1, 0.2), (0.8, 0, 0.8), (1.0, 1, 0.0), (0.0, 0, 0.0))
    def test_one_answer_for_all_pixels(self, prob, level, want):
        probs = np.full((6, 7), prob, np.float32)
        got = calibration.errors(*calibration.count(np.full((6, 7), level), probs))
        assert got["ece"] == pytest.approx(want, abs=1e-6)
        assert got["ace"] == pytest.approx(want, abs=1e-6)

    def test_background_hides_from_ece_alone(self):
        """990 clear pixels, and 10 that are said to be foreground by 0.9 and never are."""
        levels, probs = np.zeros(1000, int), np.repeat(np.float32([0, 0.9]), [990, 10])
        got = calibration.errors(*calibration.count(levels, probs))
        assert got["ece"] == pytest.approx(0.9 * 10 / 1000, abs=1e-6)
        assert got["ace"] == pytest.approx(0.9 / 2, abs=1e-6)

    def test_calibrated_probabilities_have_little_of_either(self):
        np_rng = np.random.default_rng(0)
        probs = np_rng.random(200_000, np.float32)
        levels = np_rng.random(200_000) < probs
        got = calibration.errors(*calibration.count(levels, probs))
        # A bin's share has a standard error of at most 0.5 / sqrt(200,000 / 15).
        assert max(got.values()) < 3 * 0.5 / math.sqrt(200_000 / 15)

    def test_bins_add_up_over_images_and_nothing_is_nan(self):
        images = [draw((30, 30), seed) for seed in (0, 1)]
        parts = [calibration.count(*image) for image in images]
        together = calibration.count(*map(np.stack, zip(*images, strict=True)))
        summed = [functools.reduce(np.add, part) for part in zip(*parts, strict=True)]
        got = calibration.errors(np.stack([summed[0], 0 * summed[0]]), np.stack([summed[1]] * 2))
        for name, want in calibration.errors(*together).items():
            np.testing.assert_allclose(got[name], [want, math.nan])
