"""The bootstrap over people against SciPy, simulation and cases by hand."""

import collections
import math

import numpy as np
import pytest
from absl.testing import parameterized
from scipy import stats

from jaxlung.metrics import bootstrap


def names(num):
    return np.array([f"person{i}" for i in range(num)])


def interval_of_mean(values, people, num_resamples=1_000, seed=0):
    weights = bootstrap.resample(people, num_resamples, seed)
    return bootstrap.interval(bootstrap.weighted_mean(values, weights))


class ResampleTest(parameterized.TestCase):
    def test_images_of_a_person_are_drawn_together_and_as_many_people_as_there_are(self):
        people = np.array(["b", "a", "c", "a", "a", "c"])
        weights = bootstrap.resample(people, 500, seed=0)
        assert weights.shape == (500, 6)
        first = {"a": 1, "b": 0, "c": 2}
        for image, person in enumerate(people):
            np.testing.assert_array_equal(weights[:, image], weights[:, first[person]])
        np.testing.assert_array_equal(weights[:, list(first.values())].sum(axis=1), 3)
        assert len(set(weights.sum(axis=1))) > 1

    def test_every_draw_is_equally_likely(self):
        weights = bootstrap.resample(names(3), 27_000, seed=0)
        seen = collections.Counter(map(tuple, weights))
        # Of 27 ordered draws 1, 3 or 6 give the same counts.
        ways = {row: math.factorial(3) / math.prod(map(math.factorial, row)) for row in seen}
        assert sum(ways.values()) == 27
        want = [1_000 * ways[row] for row in seen]
        assert stats.chisquare(list(seen.values()), want).pvalue > 0.01

    def test_the_seed_decides_and_the_order_of_images_does_not(self):
        people = np.array(["b", "a", "c", "a", "d"])
        weights = bootstrap.resample(people, 20, seed=5)
        np.testing.assert_array_equal(weights, bootstrap.resample(people, 20, seed=5))
        assert (weights != bootstrap.resample(people, 20, seed=6)).any()
        order = np.array([4, 2, 0, 1, 3])
        np.testing.assert_array_equal(
            weights[:, order], bootstrap.resample(people[order], 20, seed=5)
        )

    def test_bad_input_is_an_error(self):
        with pytest.raises(ValueError, match="people: got shape"):
            bootstrap.resample(names(0), 10, seed=0)
        with pytest.raises(ValueError, match="num_resamples: got 0, want at least 1"):
            bootstrap.resample(names(2), 0, seed=0)


class WeightedMeanTest(parameterized.TestCase):
    def test_is_the_mean_of_repeated_images_without_nan(self):
        np_rng = np.random.default_rng(0)
        values = np.where(np_rng.random(30) < 0.2, math.nan, np_rng.normal(size=30))
        weights = np_rng.integers(0, 3, (8, 30))
        want = [np.nanmean(np.repeat(values, row)) for row in weights]
        np.testing.assert_allclose(bootstrap.weighted_mean(values, weights), want)

    def test_a_resample_without_values_is_nan(self):
        values = np.array([math.nan, 2.0])
        got = bootstrap.weighted_mean(values, np.array([[2, 0], [1, 1], [0, 2]]))
        np.testing.assert_array_equal(got, [math.nan, 2.0, 2.0])

    def test_float32_scores_are_summed_in_float64(self):
        values = np.full(100_000, 0.1, np.float32)
        got = bootstrap.weighted_mean(values, np.ones((1, 100_000), np.float32))
        np.testing.assert_allclose(got, np.float64(np.float32(0.1)), rtol=1e-12)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match=r"values \(3,\) and weights \(2, 4\)"):
            bootstrap.weighted_mean(np.zeros(3), np.zeros((2, 4)))


class IntervalTest(parameterized.TestCase):
    def test_by_hand(self):
        values = np.random.default_rng(0).permutation(np.arange(1001.0))
        assert bootstrap.interval(values) == pytest.approx((25.0, 975.0))
        with_nan = np.concatenate([values, np.full(500, math.nan)])
        assert bootstrap.interval(with_nan) == pytest.approx((25.0, 975.0))

    @parameterized.parameters([[math.nan, math.nan]], [[]])
    def test_is_nan_without_values(self, values):
        assert all(map(math.isnan, bootstrap.interval(np.array(values))))

    def test_one_person_or_constant_values_have_no_width(self):
        values = np.random.default_rng(0).normal(size=9)
        one = np.array(["a"] * 9)
        assert interval_of_mean(values, one) == pytest.approx((values.mean(), values.mean()))
        assert interval_of_mean(np.full(9, 0.7), names(9)) == pytest.approx((0.7, 0.7))

    def test_matches_scipy_for_one_image_per_person(self):
        values = np.random.default_rng(1).gamma(2.0, size=60)
        low, high = interval_of_mean(values, names(60), num_resamples=4_000)
        want = stats.bootstrap(
            (values,), np.mean, n_resamples=4_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        # The 2.5 % quantile of 4,000 draws has a standard error of 0.042 of the mean's.
        tolerance = 4 * 0.042 * math.sqrt(2) * values.std() / math.sqrt(60)
        assert low == pytest.approx(want.low, abs=tolerance)
        assert high == pytest.approx(want.high, abs=tolerance)

    def test_covers_the_truth_of_people_with_several_images_about_95_times_in_100(self):
        np_rng = np.random.default_rng(3)
        by_person = naive = 0
        for seed in range(200):
            person = np.repeat(np.arange(60), np_rng.integers(1, 6, 60))
            values = np_rng.normal(size=60)[person] + 0.3 * np_rng.normal(size=len(person))
            low, high = interval_of_mean(values, names(60)[person], 300, seed)
            by_person += low <= 0 <= high
            low, high = interval_of_mean(values, names(len(person)), 300, seed)
            naive += low <= 0 <= high
        # Four standard errors of 200 trials are 6 %; images as if independent cover far less.
        assert 0.89 * 200 <= by_person <= 0.99 * 200
        assert naive < 0.85 * 200

    def test_copies_of_an_image_do_not_narrow_the_interval(self):
        values = np.random.default_rng(4).normal(size=50)
        want = interval_of_mean(values, names(50))
        copied, people = np.repeat(values, 9), np.repeat(names(50), 9)
        assert interval_of_mean(copied, people) == pytest.approx(want)
        # As if they were other people's: a third of the width.
        narrow = np.diff(interval_of_mean(copied, names(450))) / np.diff(want)
        assert narrow == pytest.approx(1 / 3, rel=0.15)
