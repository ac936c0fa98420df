"""Confidence intervals by resampling people: images of one patient are not independent.

The cluster bootstrap (Davison and Hinkley, 1997, section 3.8): people are drawn with
replacement, each with all of their images.
"""

import math

import numpy as np

CONFIDENCE = 0.95


def resample(people: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """How often each image counts in each resample.

    As many people are drawn as there are, so a row's sum varies where people have different
    numbers of images. A person's weights don't depend on the order of the images.

    Args:
        people: [N] str, the person that each image shows, N >= 1.
        num_resamples: R, at least 1.
        seed: of NumPy's default generator; the same seed, the same weights.

    Returns:
        [R, N] int32 >= 0, equal for all images of a person.

    Raises:
        ValueError: `people` is not [N] or empty, or `num_resamples` is below 1.
    """
    if people.ndim != 1 or not people.size:
        raise ValueError(f"bootstrap: people: got shape {people.shape}, want (N,), N at least 1.")
    if num_resamples < 1:
        raise ValueError(f"bootstrap: num_resamples: got {num_resamples}, want at least 1.")
    names, person = np.unique(people, return_inverse=True)
    np_rng = np.random.default_rng(seed)
    weights = np.empty((num_resamples, len(people)), np.int32)
    for row in weights:
        drawn = np_rng.integers(len(names), size=len(names))
        row[:] = np.bincount(drawn, minlength=len(names))[person]
    return weights


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of every resample, images without a value left out.

    Args:
        values: [N] float; NaN where the score is undefined.
        weights: [R, N], of `resample`.

    Returns:
        [R] float64; NaN where a resample has no value.

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


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the resamples' scores (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: [R] float; NaN resamples are ignored.

    Returns:
        (low, high); NaN if no resample has a value.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
