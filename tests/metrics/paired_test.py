"""Paired tests against SciPy called directly, cases worked by hand and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from absl.testing import parameterized
from scipy import special, stats

from jaxlung.metrics import jackknife, paired


def names(num):
    return np.array([f"person{i:05}" for i in range(num)])


def draw(np_rng, num_people, per_person=3):
    """Dice of two networks that are equally good, for similar images of each person."""
    person = np.repeat(np.arange(num_people), per_person)
    patient = 2 + np_rng.normal(size=num_people)[person]
    noise = np_rng.normal(size=(2, num_people))[:, person] / 2
    one, other = special.expit(patient + noise + np_rng.normal(size=(2, len(person))) / 2)
    return one - other, names(num_people)[person]


def jackknife_of_mean(values, people):
    each = jackknife.weigh_each(jackknife.group_people(people))
    return jackknife.weighted_mean(values, 1 - each)


class PermutationTest(parameterized.TestCase):
    def test_is_scipys_for_one_image_per_person(self):
        values = np.random.default_rng(0).normal(0.4, 1, 10)
        test = stats.permutation_test(
            (values, np.zeros(10)), lambda x, y: np.mean(x - y), permutation_type="samples"
        )
        assert paired.permutation_p(values, names(10)) == pytest.approx(test.pvalue)

    def test_counts_every_change_of_signs(self):
        values, people = draw(np.random.default_rng(1), 6, per_person=2)
        each = values.reshape(6, 2).sum(axis=1)
        signs = np.array([*itertools.product([-1, 1], repeat=6)])
        want = np.mean(np.abs(signs @ each) >= abs(each.sum()) - 1e-12)
        assert paired.permutation_p(values, people) == pytest.approx(want)

    @parameterized.parameters(2, 5, 9)
    def test_is_smallest_if_one_is_better_for_everyone(self, num):
        values = np.random.default_rng(2).random(num) + 0.1
        assert paired.permutation_p(values, names(num)) == paired.smallest_p(num) == 2 / 2**num

    @parameterized.parameters(5, 40)
    def test_exchanging_the_networks_does_not_change_p(self, num):
        values, people = draw(np.random.default_rng(3), num)
        assert paired.permutation_p(-values, people) == paired.permutation_p(values, people)

    @parameterized.parameters(1e-9, 1e9)
    def test_a_unit_does_not_change_p(self, factor):
        values = np.array([0.1, 0.2, -0.3, 0.2, 0.1, -0.3, 0.7])  # Some sums are equal.
        want = paired.permutation_p(values, names(7))
        assert paired.permutation_p(factor * values, names(7)) == want

    @parameterized.parameters(1, 1e9 / 7)
    def test_differences_that_cancel_are_no_finding(self, factor):
        values = factor * np.array([0.1, 0.2, -0.3] * 3)  # Their sum is 0, but for rounding.
        assert paired.permutation_p(values, names(9)) == 1

    def test_more_images_of_the_same_people_do_not_change_p(self):
        values, people = draw(np.random.default_rng(4), 9)
        want = paired.permutation_p(values, people)
        assert paired.permutation_p(np.tile(values, 20), np.tile(people, 20)) == want

    def test_no_difference_at_all_is_no_finding(self):
        assert paired.permutation_p(np.zeros(8), names(8)) == 1

    def test_a_small_difference_of_many_people_is_found(self):
        values = np.random.default_rng(5).normal(0.1, 1, 20_000)
        assert paired.permutation_p(values, names(20_000)) < 0.01

    def test_one_person_has_no_p(self):
        assert math.isnan(paired.permutation_p(np.array([0.1, 0.2]), np.array(["a", "a"])))

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match=r"differences \(3,\) and people \(2,\)"):
            paired.permutation_p(np.zeros(3), names(2))

    def test_finds_a_difference_where_there_is_none_one_time_in_twenty_at_most(self):
        found = [
            paired.permutation_p(*draw(np.random.default_rng((seed, 8)), 8)) for seed in range(400)
        ]
        # 20 are expected; more than 32 come up in one of 200 such tests (binomial).
        assert 8 <= np.count_nonzero(np.array(found) <= 0.05) <= 32


class JackknifeTest(parameterized.TestCase):
    def test_is_students_for_a_mean_of_one_image_per_person(self):
        values = np.random.default_rng(6).normal(0.3, 1, 12)
        got = paired.jackknife_p(values.mean(), jackknife_of_mean(values, names(12)), 12)
        assert got == pytest.approx(stats.ttest_1samp(values, 0).pvalue)

    def test_is_below_one_in_twenty_where_the_interval_excludes_0(self):
        for seed in range(40):
            values, people = draw(np.random.default_rng((seed, 7)), 7)
            left_out = jackknife_of_mean(values, people)
            low, high = jackknife.interval(values.mean(), left_out, 7, -math.inf, math.inf)
            assert (paired.jackknife_p(values.mean(), left_out, 7) < 0.05) == (low > 0 or high < 0)

    def test_without_people_or_scores_there_is_no_p(self):
        assert math.isnan(paired.jackknife_p(0.5, np.array([0.5]), 1))
        assert math.isnan(paired.jackknife_p(0.5, np.array([0.5, math.nan]), 2))
        assert paired.jackknife_p(0.0, np.zeros(3), 3) == 1


class HolmTest(parameterized.TestCase):
    def test_is_the_case_worked_by_hand(self):
        # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1; the last may not be below the one before.
        got = paired.holm(np.array([0.01, 0.04, 0.03, 0.005]))
        np.testing.assert_allclose(got, [0.03, 0.06, 0.06, 0.02])

    def test_stays_a_probability(self):
        np.testing.assert_array_equal(paired.holm(np.array([0.6, 0.9])), [1, 1])

    def test_one_p_is_not_adjusted_and_none_is_none(self):
        np.testing.assert_array_equal(paired.holm(np.array([0.04])), [0.04])
        assert paired.holm(np.array([])).shape == (0,)

    def test_what_was_not_tested_is_not_counted(self):
        got = paired.holm(np.array([math.nan, 0.02, math.nan, 0.03]))
        np.testing.assert_array_equal(got, [math.nan, 0.04, math.nan, 0.04])

    def test_rejects_as_the_step_down_rule_says(self):
        np_rng = np.random.default_rng(8)
        for _ in range(50):
            values = np_rng.random(6) ** 3
            rejected = np.zeros(6, bool)
            for rank, place in enumerate(np.argsort(values)):
                if values[place] > 0.05 / (6 - rank):
                    break
                rejected[place] = True
            np.testing.assert_array_equal(paired.holm(values) <= 0.05, rejected)
