"""Confidence intervals by leaving out people, as images of one patient are not independent.

The jackknife over people gives the standard error (Efron and Stein, 1981; for few clusters
MacKinnon, Nielsen and Webb, 2023), Student's t distribution the width, and the logit keeps the ends
inside the range of the score. `docs/scores.md` says how often such intervals contain the truth;
with few people, percentile and BCa bootstrap contain it far less often.
"""

import math

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
CHUNK = 1 << 20  # weights that are converted at a time
MOST_GROUPS = 500  # With more people, several are left out at a time (our choice).


def group_people(people: np.ndarray) -> np.ndarray:
    """Assigns images to groups that are left out together: one person each, or several.

    Args:
        people: [N] str, the person that each image shows, N >= 1.

    Returns:
        [N] int from 0 to G - 1, with G at most `MOST_GROUPS`. It depends only on the names and
        their number, not on the order of images.

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
    """Returns 1 where an image belongs to a group, else 0: [G, N] int32.

    Args:
        groups: [N] int, made by `group_people`.
    """
    return (groups == np.arange(groups.max() + 1)[:, None]).astype(np.int32)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted mean for each row of weights, leaving out images without a value.

    Args:
        values: [N] float; NaN where the score is undefined.
        weights: [R, N] int, how often each image counts.

    Returns:
        [R] float64; NaN where no image with a value counts.

    Raises:
        ValueError: `values` is not [N] or `weights` is not [R, N].
    """
    if values.ndim != 1 or weights.shape[1:] != values.shape:
        raise ValueError(
            f"weighted_mean: values {values.shape} and weights {weights.shape} must be [N], [R, N]."
        )
    known = ~np.isnan(values)
    kept = values[known].astype(np.float64)
    # Not weights[:, known], which lies in memory column by column.
    rows = weights if known.all() else np.compress(known, weights, axis=1)
    # Some rows at a time, as a float64 copy of all weights would be large. Row by row, BLAS would
    # wake its threads for each.
    step = max(1, CHUNK // max(1, len(kept)))
    parts = [rows[i : i + step].astype(np.float64) @ kept for i in range(0, len(rows), step)]
    totals, counts = np.concatenate(parts), rows.sum(axis=1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), math.nan)


def interval(
    score: float, left_out: np.ndarray, num_people: int, low: float, high: float
) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a score, inside the score's range.

    A score at an end of a finite range, such as an accuracy of 1, has no spread to estimate from.
    There the interval is Clopper and Pearson's (1934) for as many people who are all right. It is
    exact for means: if the true mean of scores in [0, 1] is m, all n people score 1 in at most
    m ** n of the samples. For an AUC, people are pairs of a positive and a negative person.

    Args:
        score: the score of all people.
        left_out: [G] float64, the score without each of the G groups that contribute to it.
        num_people: number of people who contribute; t has one degree of freedom less.
        low: lowest possible score, or -inf.
        high: highest possible score, or inf.

    Returns:
        Lower and upper end. Both are NaN for fewer than two people, for a score that is NaN, where
        leaving out a group leaves no score, and where leaving out a group changes nothing although
        the score is inside its range.
    """
    unknown = (math.nan, math.nan)
    if num_people < 2 or not np.isfinite([score, *left_out]).all():
        return unknown
    if math.isfinite(high - low) and min(score - low, high - score) <= 1e-12 * (high - low):
        return _at_an_end(score, num_people, low, high)
    error = standard_error(left_out)
    if error <= 1e-12 * max(1.0, abs(score)) or score <= low:
        return unknown
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, num_people - 1) * error
    return _around(score, reach, low, high)


def standard_error(left_out: np.ndarray) -> float:
    """Returns the jackknife's standard error from [G] scores, each without one of G groups."""
    return math.sqrt((len(left_out) - 1) * np.var(left_out))


def _at_an_end(score: float, num_people: int, low: float, high: float) -> tuple[float, float]:
    width = (high - low) * (1 - ((1 - CONFIDENCE) / 2) ** (1 / num_people))
    return (low, low + width) if score - low < high - score else (high - width, high)


def _around(score: float, reach: float, low: float, high: float) -> tuple[float, float]:
    """Returns `score` -+ `reach`, computed on a scale without ends: logit, logarithm or linear."""
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
