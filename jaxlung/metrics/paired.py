"""Tests of paired differences: two networks are scored on the same images of the same people.

`docs/scores.md` says how often the permutation test calls a difference real where there is none.
Wilcoxon's signed-rank test compares medians: it finds differences between networks of equal means,
one of which is a little better on most images and far worse on a few.
"""

import math

import numpy as np
from scipy import stats

from jaxlung.metrics import jackknife

NUM_RESAMPLES = 9_999  # Up to 13 people, the test is exact instead.


def permutation_p(differences: np.ndarray, people: np.ndarray) -> float:
    """Returns the two-sided p-value of a mean difference by a paired permutation test over people.

    If neither network is better, the two could change places for any person, which changes the sign
    of all of that person's differences (Fisher, 1935, section 21). p is the share of such changes
    whose mean difference is as far from 0. Images of one person change sign together; beyond
    `jackknife.MOST_GROUPS` people, several people do.

    Args:
        differences: [N] float, one for each image, without NaN.
        people: [N] str, the person that each image shows.

    Returns:
        A float in (0, 1]; NaN for fewer than two people. Nothing is random: the same differences
        give the same p.

    Raises:
        ValueError: `differences` and `people` are not both [N].
    """
    if differences.shape != people.shape or people.ndim != 1:
        raise ValueError(
            f"permutation_p: differences {differences.shape} and people {people.shape} must be [N]."
        )
    if len(set(people.tolist())) < 2:
        return math.nan
    totals = np.bincount(jackknife.group_people(people), differences)
    largest = np.abs(totals).max()
    test = stats.permutation_test(
        (totals / largest if largest else totals,),
        _rounded_sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=1_000,  # Resamples in memory at once.
        rng=0,
    )
    return float(test.pvalue)


def _rounded_sum(totals: np.ndarray, axis: int) -> np.ndarray:
    """Returns sums that are equal if they are so but for rounding errors, as ties count in p."""
    return np.round(np.sum(totals, axis=axis), 12)


def smallest_p(num_people: int) -> float:
    """Returns the smallest p that `permutation_p` can give: one network is better for everyone."""
    return 2.0 ** (1 - num_people)


def jackknife_p(difference: float, left_out: np.ndarray, num_people: int) -> float:
    """Returns the two-sided p-value of a difference by Student's t and the jackknife's error.

    It is for scores that are no means over images, such as an AUC.

    Args:
        difference: the difference over all people.
        left_out: [G] float64, the difference without each of the G groups of people.
        num_people: number of people who contribute; t has one degree of freedom less.

    Returns:
        A float in [0, 1]; 1 if all differences are 0, NaN for fewer than two people and where
        leaving out a group leaves no score.
    """
    if num_people < 2 or not np.isfinite([difference, *left_out]).all():
        return math.nan
    error = jackknife.standard_error(left_out)
    if error <= 1e-12:  # Rounding errors, as `difference` may then be.
        return 1.0 if abs(difference) <= 1e-12 else math.nan
    return float(2 * stats.t.sf(abs(difference) / error, num_people - 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns p-values adjusted for their number (Holm, 1979).

    The chance that any of the differences is called real although none is stays below the level at
    which the adjusted p-values are read.

    Args:
        p_values: [M] float; NaN for a difference that wasn't tested, which stays NaN and is not
            counted.

    Returns:
        [M] float64 in [0, 1].
    """
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN is sorted last.
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(p_values.shape, math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
