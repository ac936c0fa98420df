"""Confidence intervals by leaving out people: images of one patient are not independent.

The jackknife over people gives the standard error (Efron and Stein, 1981; of few clusters
MacKinnon, Nielsen and Webb, 2023), Student's t the width, and the logit keeps the ends inside the
range of the score. `docs/scores.md` has how often such intervals hold the truth; percentile and BCa
bootstrap hold it far less often with few people.
"""

import math

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
MOST_GROUPS = 500  # Of more people, several are left out at a time (our choice).


def group_people(people: np.ndarray) -> np.ndarray:
    """Which images are left out together: those of a person, or of several where many are.

    Args:
        people: [N] str, the person that each image shows, N >= 1.

    Returns:
        [N] int from 0 to G - 1, G at most `MOST_GROUPS`; the same people, the same groups.

    Raises:
        ValueError: `people` is not [N] or empty.
    """
    if people.ndim != 1 or not people.size:
        raise ValueError(f"jackknife: people: got shape {people.shape}, want (N,), N at least 1.")
    names, person = np.unique(people, return_inverse=True)
    if len(names) <= MOST_GROUPS:
        return person
    # Names may be in the order of their hospitals.
    return np.random.default_rng(0).permutation(len(names))[person] % MOST_GROUPS


def weigh_each(groups: np.ndarray) -> np.ndarray:
    """[G, N] int32: 1 where an image is of the group, of `group_people`."""
    return (groups == np.arange(groups.max() + 1)[:, None]).astype(np.int32)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean by every row of weights, images without a value left out.

    Args:
        values: [N] float; NaN where the score is undefined.
        weights: [R, N], how often each image counts.

    Returns:
        [R] float64; NaN where no image with a value counts.

    Raises:
        ValueError: `values` are not [N] or `weights` not [R, N].
    """
    if values.ndim != 1 or weights.shape[1:] != values.shape:
        raise ValueError(
            f"weighted_mean: values {values.shape} and weights {weights.shape} must be [N], [R, N]."
        )
    known = ~np.isnan(values)
    # Rows of their own: a float64 copy of all weights would be large.
    totals = np.array([row[known] @ values[known].astype(np.float64) for row in weights])
    counts = weights @ known.astype(np.int64)
    return np.where(counts > 0, totals / np.maximum(counts, 1), math.nan)


def interval(
    score: float, left_out: np.ndarray, num_people: int, low: float, high: float
) -> tuple[float, float]:
    """The 95 % interval of a score, inside its range.

    A score at the end of a finite range, as if all were right, has no spread to go by. There it is
    Clopper and Pearson's (1934) of as many people who are all right: exact for means, as a mean m
    of scores in [0, 1] lets all n people have 1 in at most m ** n of samples; and for an AUC, of
    as many pairs of a positive and a negative person.

    Args:
        score: of everybody.
        left_out: [G] float64, the score without each of G groups that have a part in it.
        num_people: how many the score rests on; t has one degree of freedom less.
        low: the least that a score can be, or -inf.
        high: the most, or inf.

    Returns:
        (low, high); NaN of fewer than two people, of a score that is NaN or all of whose people
        have the same inside the range, and where leaving out a group leaves no score.
    """
    unknown = (math.nan, math.nan)
    if num_people < 2 or not np.isfinite([score, *left_out]).all():
        return unknown
    if math.isfinite(high - low) and min(score - low, high - score) <= 1e-12 * (high - low):
        return _at_an_end(score, num_people, low, high)
    error = math.sqrt((len(left_out) - 1) * np.var(left_out))
    if error <= 1e-12 * max(1.0, abs(score)) or score <= low:
        return unknown
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, num_people - 1) * error
    return _around(score, reach, low, high)


def _at_an_end(score: float, num_people: int, low: float, high: float) -> tuple[float, float]:
    width = (high - low) * (1 - ((1 - CONFIDENCE) / 2) ** (1 / num_people))
    return (low, low + width) if score - low < high - score else (high - width, high)


def _around(score: float, reach: float, low: float, high: float) -> tuple[float, float]:
    """`score` give or take `reach`, on a scale without ends: logit, logarithm, or as it is."""
    either = np.array([-1.0, 1.0])
    if math.isfinite(high - low):
        share = (score - low) / (high - low)
        slope = share * (1 - share) * (high - low)
        ends = low + (high - low) * special.expit(special.logit(share) + either * reach / slope)
    elif math.isfinite(low):
        ends = low + (score - low) * np.exp(either * reach / (score - low))
    else:
        ends = score + either * reach
    return float(ends[0]), float(ends[1])
