"""Intervals over people against textbook formulas, SciPy's exact ones and simulation."""

import math

import numpy as np
import pytest
from absl.testing import parameterized
from scipy import special, stats

from jaxlung.metrics import jackknife


def names(num):
    return np.array([f"person{i:05}" for i in range(num)])


def interval_of_mean(values, people, low=-math.inf, high=math.inf):
    each = jackknife.weigh_each(jackknife.group_people(people))
    left_out = jackknife.weighted_mean(values, 1 - each)
    return jackknife.interval(values.mean(), left_out, len(each), low, high)


class GroupTest(parameterized.TestCase):
    def test_images_of_a_person_are_left_out_together(self):
        people = np.array(["b", "a", "c", "a", "a", "c"])
        each = jackknife.weigh_each(jackknife.group_people(people))
        want = [[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1]]
        np.testing.assert_array_equal(each, want)

    def test_many_people_are_left_out_several_at_a_time_and_never_torn_apart(self):
        np_rng = np.random.default_rng(0)
        people = np_rng.permutation(np.repeat(names(1_700), 2))
        groups = jackknife.group_people(people)
        np.testing.assert_array_equal(np.unique(groups), np.arange(jackknife.MOST_GROUPS))
        assert len(set(zip(people, groups, strict=True))) == 1_700
        sizes = np.bincount(groups)
        assert sizes.max() - sizes.min() <= 2  # A person has two images.
        order = np_rng.permutation(len(people))
        np.testing.assert_array_equal(jackknife.group_people(people[order]), groups[order])

    def test_bad_input_is_an_error(self):
        with pytest.raises(ValueError, match="people: got shape"):
            jackknife.group_people(names(0))


class WeightedMeanTest(parameterized.TestCase):
    def test_is_the_mean_of_repeated_images_without_nan(self):
        np_rng = np.random.default_rng(0)
        values = np.where(np_rng.random(30) < 0.2, math.nan, np_rng.normal(size=30))
        weights = np_rng.integers(0, 3, (8, 30))
        want = [np.nanmean(np.repeat(values, row)) for row in weights]
        np.testing.assert_allclose(jackknife.weighted_mean(values, weights), want)

    def test_a_resample_without_values_is_nan(self):
        values = np.array([math.nan, 2.0])
        got = jackknife.weighted_mean(values, np.array([[2, 0], [1, 1], [0, 2]]))
        np.testing.assert_array_equal(got, [math.nan, 2.0, 2.0])

    def test_float32_scores_are_summed_in_float64(self):
        values = np.full(100_000, 0.1, np.float32)
        got = jackknife.weighted_mean(values, np.ones((1, 100_000), np.float32))
        np.testing.assert_allclose(got, np.float64(np.float32(0.1)), rtol=1e-12)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match=r"values \(3,\) and weights \(2, 4\)"):
            jackknife.weighted_mean(np.zeros(3), np.zeros((2, 4)))


class IntervalTest(parameterized.TestCase):
    def test_of_a_mean_without_limits_it_is_students(self):
        values = np.random.default_rng(1).normal(size=12)
        want = stats.ttest_1samp(values, 0).confidence_interval(jackknife.CONFIDENCE)
        assert interval_of_mean(values, names(12)) == pytest.approx((want.low, want.high))

    @parameterized.parameters((0.0, 1.0), (-1.0, 3.0))
    def test_between_two_limits_it_is_even_on_the_scale_of_logits(self, low, high):
        values = np.random.default_rng(2).beta(5, 1.5, 6)
        ends = np.array(interval_of_mean(values, names(6), low, high))
        mean, logits = values.mean(), special.logit((ends - low) / (high - low))
        middle = special.logit((mean - low) / (high - low))
        np.testing.assert_allclose(middle - logits[0], logits[1] - middle)
        # To the first order it is as wide as Student's.
        slope = (mean - low) * (high - mean) / (high - low)
        reach = stats.sem(values) * stats.t.ppf(0.975, 5)
        np.testing.assert_allclose((logits[1] - middle) * slope, reach)

    def test_above_one_limit_it_is_a_factor_either_way(self):
        values = np.random.default_rng(3).gamma(2.0, size=9)
        low, high = interval_of_mean(values, names(9), 0.0)
        assert values.mean() / low == pytest.approx(high / values.mean())
        reach = stats.sem(values) * stats.t.ppf(0.975, 8)
        assert math.log(high / values.mean()) == pytest.approx(reach / values.mean())

    @parameterized.parameters(2, 4, 15, 400)
    def test_where_all_are_right_or_wrong_it_is_clopper_and_pearsons(self, num):
        for score, right in ((1.0, num), (0.0, 0)):
            want = stats.binomtest(right, num).proportion_ci(0.95, method="exact")
            got = interval_of_mean(np.full(num, score), names(num), 0.0, 1.0)
            assert got == pytest.approx((want.low, want.high))

    def test_one_person_a_score_without_spread_or_without_values_has_none(self):
        values = np.random.default_rng(0).random(9)
        none = (
            interval_of_mean(values, np.array(["a"] * 9), 0.0, 1.0),
            interval_of_mean(np.full(9, 0.7), names(9), 0.0, 1.0),
            interval_of_mean(np.zeros(9), names(9), 0.0),  # Of distances: no end to reach.
            jackknife.interval(math.nan, np.array([math.nan] * 3), 3, 0.0, 1.0),
            jackknife.interval(0.5, np.array([0.4, math.nan, 0.6]), 3, 0.0, 1.0),
        )
        for low, high in none:
            assert math.isnan(low)
            assert math.isnan(high)

    @parameterized.product(num=[2, 3, 40], seed=[0, 1, 2])
    def test_stays_among_possible_scores_and_holds_the_score(self, num, seed):
        values = np.random.default_rng(seed).beta(0.2, 0.1, num)
        low, high = interval_of_mean(values, names(num), 0.0, 1.0)
        assert 0 <= low <= values.mean() <= high <= 1

    def test_copies_of_an_image_do_not_narrow_the_interval(self):
        values = np.random.default_rng(4).normal(size=50)
        want = interval_of_mean(values, names(50))
        copied = np.repeat(values, 9)
        assert interval_of_mean(copied, np.repeat(names(50), 9)) == pytest.approx(want)
        # As if they were other people's: a third of the width.
        narrow = np.diff(interval_of_mean(copied, names(450))) / np.diff(want)
        assert narrow == pytest.approx(1 / 3, rel=0.15)

    def test_people_left_out_several_at_a_time_give_much_the_same(self):
        values = np.random.default_rng(5).random(4_000)
        want = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        low, high = interval_of_mean(values, names(4_000))
        # A standard error of 500 groups is known to 3 %.
        assert high - low == pytest.approx(want.high - want.low, rel=0.12)
