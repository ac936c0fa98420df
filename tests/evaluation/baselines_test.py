"""Baselines against brute force and against cases worked by hand."""

import itertools

import numpy as np
import pytest
from absl.testing import parameterized
from sklearn import metrics

from jaxlung.evaluation import baselines

NAMES = ("outside", "lung", "infection")


def histograms_of(pixels):
    """Histograms from {intensity: [count of each level]}."""
    histograms = np.zeros((len(next(iter(pixels.values()))), 256), np.int64)
    for intensity, counts in pixels.items():
        histograms[:, intensity] = counts
    return histograms


def table_quality(table, histograms):
    """Score of a table by expanding the histograms into pixels: slow and plain."""
    labels = np.repeat(np.arange(histograms.size) // 256, histograms.ravel())
    values = np.repeat(np.arange(histograms.size) % 256, histograms.ravel())
    average = "macro" if len(histograms) > 2 else "binary"
    names = range(len(histograms)) if len(histograms) > 2 else None
    return metrics.jaccard_score(
        labels, table[values], labels=names, average=average, zero_division=1
    )


class MinMaxTest(parameterized.TestCase):
    def test_each_image_is_stretched_by_itself(self):
        images = np.array([[[10, 20], [30, 10]], [[0, 255], [51, 0]]], np.uint8)
        want = [[[0, 128], [255, 0]], [[0, 255], [51, 0]]]
        np.testing.assert_array_equal(baselines.min_max_uint8(images), want)

    def test_one_brightness_becomes_zero(self):
        assert not baselines.min_max_uint8(np.full((3, 3), 77, np.uint8)).any()


class CountTest(parameterized.TestCase):
    def test_counts_match_a_loop(self):
        np_rng = np.random.default_rng(0)
        images = np_rng.integers(0, 256, (5, 4, 6), np.uint8)
        levels = np_rng.integers(0, 3, (5, 4, 6), np.uint8)
        counts = baselines.count(zip(images, levels, strict=True), 3)
        histograms, level_counts = np.zeros((3, 256)), np.zeros((3, 4, 6))
        for n, i, j in np.ndindex(images.shape):
            value = baselines.min_max_uint8(images[n])[i, j]
            histograms[levels[n, i, j], value] += 1
            level_counts[levels[n, i, j], i, j] += 1
        np.testing.assert_array_equal(counts.histograms, histograms)
        np.testing.assert_array_equal(counts.level_counts, level_counts)

    def test_bad_streams_are_named(self):
        def blank(*shape):
            return np.zeros(shape, np.uint8)

        with pytest.raises(ValueError, match="got none"):
            baselines.count([], 2)
        with pytest.raises(ValueError, match=r"\(2, 3\).*want \(2, 2\)"):
            baselines.count([(blank(2, 2), blank(2, 2)), (blank(2, 3), blank(2, 3))], 2)
        with pytest.raises(ValueError, match="below 2, got 2"):
            baselines.count([(blank(2, 2), blank(2, 2) + 2)], 2)


class ThresholdTest(parameterized.TestCase):
    def test_separable_levels_are_separated_whatever_their_order(self):
        histograms = histograms_of({40: [0, 9, 0], 120: [0, 0, 4], 200: [20, 0, 0]})
        got = baselines.fit_threshold(histograms, NAMES)
        assert table_quality(got.table, histograms) == 1
        assert got.description == (
            "lung below 41, infection 41 to 120, outside from 121 (0 black, 255 white)"
        )

    def test_two_levels_by_hand(self):
        # Dark: 8 of 10 are lung. Bright: 1 of 10. IoU of "dark is lung": 8 / (10 + 1) = 0.73,
        # of "all is lung": 9 / 20.
        histograms = histograms_of({30: [2, 8], 180: [9, 1]})
        got = baselines.fit_threshold(histograms, ("background", "lung"))
        assert got.table[30] == 1
        assert got.table[180] == 0
        assert got.description == "lung below 31, background from 31 (0 black, 255 white)"

    @parameterized.parameters(0, 1, 2)
    def test_two_levels_match_brute_force(self, seed):
        np_rng = np.random.default_rng(seed)
        shown = np_rng.choice(256, 5, replace=False)
        histograms = histograms_of({int(v): np_rng.integers(0, 9, 2) for v in shown})
        # Only cuts beside intensities that occur make a difference.
        cuts, values = [0, *(shown + 1)], np.arange(256)
        tables = [np.where(values < cut, low, 1 - low) for cut in cuts for low in (0, 1)]
        got = baselines.fit_threshold(histograms, NAMES[:2])
        want = max(table_quality(table, histograms) for table in tables)
        assert table_quality(got.table, histograms) == pytest.approx(want, abs=1e-12)

    @parameterized.parameters(0, 1)
    def test_three_levels_match_brute_force(self, seed):
        np_rng = np.random.default_rng(seed)
        shown = np.sort(np_rng.choice(256, 4, replace=False))
        histograms = histograms_of({int(v): np_rng.integers(0, 9, 3) for v in shown})
        cuts = itertools.combinations_with_replacement([0, *(shown + 1)], 2)
        orders = itertools.permutations(range(3))
        tables = [
            np.array(order)[np.searchsorted(pair, np.arange(256), side="right")]
            for pair, order in itertools.product(cuts, orders)
        ]
        got = baselines.fit_threshold(histograms, NAMES)
        want = max(table_quality(table, histograms) for table in tables)
        assert table_quality(got.table, histograms) == pytest.approx(want, abs=1e-12)

    def test_an_absent_foreground_is_not_predicted(self):
        got = baselines.fit_threshold(histograms_of({7: [5, 0]}), ("background", "lung"))
        assert got.table[7] == 0

    def test_prediction_scales_the_image_first(self):
        histograms = histograms_of({0: [0, 5], 255: [5, 0]})
        baseline = baselines.fit_threshold(histograms, ("background", "lung"))
        image = np.array([[100, 101], [101, 100]], np.uint8)
        np.testing.assert_array_equal(baseline.predict(image), [[1, 0], [0, 1]])

    def test_other_numbers_of_levels_are_refused(self):
        with pytest.raises(ValueError, match=r"got \(4, 256\)"):
            baselines.fit_threshold(np.zeros((4, 256), np.int64), "abcd")


class MeanMaskTest(parameterized.TestCase):
    def test_two_levels_by_hand(self):
        # Ten images, foreground 9, 6, 1, 0 times: sum 16. Pooled Dice of the first k pixels:
        # 18/26 = 0.69, 30/36 = 0.83, 32/46 = 0.70. So the first two.
        foreground = np.array([[9, 6], [1, 0]])
        got = baselines.fit_mean_mask(np.stack([10 - foreground, foreground]), ("bg", "lung"))
        np.testing.assert_array_equal(got.levels, [[1, 1], [0, 0]])
        assert got.description == "lung where at least 6 of 10 training images have it"

    @parameterized.parameters(range(4))
    def test_two_levels_match_brute_force(self, seed):
        masks = np.random.default_rng(seed).random((5, 2, 3)) < 0.4
        foreground = masks.sum(axis=0)
        got = baselines.fit_mean_mask(np.stack([5 - foreground, foreground]), ("bg", "lung"))

        def pooled_dice(mask):
            return metrics.f1_score(masks.ravel(), np.tile(mask.ravel(), 5), zero_division=1)

        every_mask = np.array(list(itertools.product([0, 1], repeat=6)))
        assert pooled_dice(got.levels) == max(pooled_dice(mask) for mask in every_mask)

    def test_no_foreground_gives_an_empty_mask(self):
        counts = np.stack([np.full((2, 2), 3), np.zeros((2, 2), int)])
        got = baselines.fit_mean_mask(counts, ("background", "lung"))
        assert not got.levels.any()
        assert got.description == "lung nowhere"

    def test_three_levels_take_the_most_frequent(self):
        counts = np.array([[[4, 1, 2]], [[1, 3, 2]], [[0, 1, 1]]])
        got = baselines.fit_mean_mask(counts, NAMES)
        np.testing.assert_array_equal(got.levels, [[0, 1, 0]])
        np.testing.assert_array_equal(got.predict(np.zeros((2, 1, 3))), [[[0, 1, 0]]] * 2)

    def test_unequal_counts_are_refused(self):
        with pytest.raises(ValueError, match="sums from 1 to 2"):
            baselines.fit_mean_mask(np.array([[[1, 2]], [[0, 0]]]), ("background", "lung"))


def iou(hu, foreground, low, high):
    preds = (hu >= low) & (hu < high)
    return (preds & foreground).sum() / max((preds | foreground).sum(), 1)


def test_no_other_band_does_better():
    np_rng = np.random.default_rng(0)
    hu = np.concatenate([np_rng.normal(-850, 60, 900), np_rng.normal(-400, 150, 300)])
    hu = np.clip(hu, -1024, 3071).astype(np.int16)
    foreground = np.arange(1200) >= 900
    foreground[:50] = True  # Some that no band finds.
    band = baselines.fit_band([(hu[:500], foreground[:500]), (hu[500:], foreground[500:])])
    found = iou(hu, foreground, band.low, band.high)
    np.testing.assert_array_equal(band.predict(hu), (hu >= band.low) & (hu < band.high))
    edges = range(-1024, 200, 16)
    best = max(iou(hu, foreground, low, high) for low in edges for high in edges if low < high)
    np.testing.assert_allclose(found, best)
    assert band.description == f"all voxels from {band.low} to {band.high - 1} HU"


def test_the_ends_of_the_scale_are_counted():
    hu = np.array([-1024, 3071, 0, 5], np.int16)
    band = baselines.fit_band([(hu, np.array([False, True, False, False]))])
    np.testing.assert_array_equal(band.predict(hu), [False, True, False, False])
