"""Receiver operating characteristic of a yes/no decision: curve, area and threshold.

TPR = TP / (TP + FN) is the sensitivity; FPR = FP / (FP + TN) is 1 - specificity. Zhang, section
5.3, swaps them.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Roc:
    """An ROC curve: the point (0, 0), then one point per distinct score.

    Attributes:
        fpr: [T] float64, rising from 0 to 1; NaN if no label is False.
        tpr: [T] float64, rising from 0 to 1; NaN if no label is True.
        thresholds: [T] float64, falling from inf; scores >= a point's threshold count as positive.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> Roc:
    """Returns the curve from (0, 0), where nothing counts as positive, to (1, 1), where all does.

    Images of equal score change sides together, as one point at the end of a slanted segment.

    Args:
        labels: [N] bool.
        scores: [N] float; higher scores are more likely positive.

    Raises:
        ValueError: `labels` are not bool, differ in shape from `scores`, or a score is NaN.
    """
    _check(labels, scores)
    distinct, group = np.unique(scores, return_inverse=True)
    rates = []
    for is_class in (~labels, labels):
        count = np.bincount(group[is_class], minlength=len(distinct))[::-1]
        rates.append(np.cumsum([0, *count]) / (count.sum() or math.nan))
    fpr, tpr = rates
    return Roc(fpr, tpr, thresholds=np.array([math.inf, *distinct[::-1]]))


def auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Returns the area under the curve.

    It is the share of pairs in which the positive scores above the negative, with ties counting
    half (Mann and Whitney, 1947), computed by sorting.

    Args:
        labels: [N] bool.
        scores: [N] float; higher scores are more likely positive.
        weights: None, or [R, N] >= 0, how often each image counts in each of R resamples.

    Returns:
        A float in [0, 1] or, with weights, [R] float64; NaN where a class is absent.

    Raises:
        ValueError: `labels` are not bool, differ in shape from `scores`, or a score is NaN; or
            `weights` are not [R, N].
    """
    _check(labels, scores)
    group = np.unique(scores, return_inverse=True)[1]
    if weights is None:
        return _area(labels, group, np.ones(len(labels)))
    if weights.ndim != 2 or weights.shape[1] != len(labels):
        raise ValueError(f"auc: weights: got {weights.shape}, want (resamples, {len(labels)}).")
    # Row by row, which needs temporary arrays of [N] and not of [R, N].
    return np.array([_area(labels, group, row) for row in weights], np.float64)


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the threshold with the highest TPR - FPR (Youden's J, 1950).

    Scores above it count as positive. Candidates lie midway between neighbouring scores, with 0 and
    1 as the outermost neighbours. Among equally good ones the nearest to 0.5 wins, and of two at
    the same distance the lower (our choice).

    Args:
        labels: [N] bool, some True and some False.
        scores: [N] float in [0, 1].

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: `labels` are not bool, differ in shape from `scores` or are all the same; a
            score is outside [0, 1].
    """
    _check(labels, scores)
    if labels.all() or not labels.any():
        raise ValueError(
            f"best_threshold: got {labels.sum()} positive of {len(labels)} labels, want both kinds."
        )
    if not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError(
            f"best_threshold: got scores from {scores.min()} to {scores.max()}, want 0 to 1."
        )
    edges = np.unique(np.append(scores.astype(np.float64), [0, 1]))
    thresholds = np.append((edges[:-1] + edges[1:]) / 2, 1.0)  # Nothing is above 1.
    hits, alarms = (_num_above(scores[is_class], thresholds) for is_class in (labels, ~labels))
    # J times both class sizes is a whole number, so that equal values compare as equal.
    youden = hits * np.sum(~labels) - alarms * np.sum(labels)
    best = thresholds[youden == youden.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _area(labels: np.ndarray, group: np.ndarray, weights: np.ndarray) -> float:
    """Returns the area; `group` is the rank of each image's score among the distinct scores."""
    size = group.max(initial=-1) + 1
    positive = np.bincount(group[labels], weights[labels], minlength=size)
    negative = np.bincount(group[~labels], weights[~labels], minlength=size)
    num_pairs = positive.sum() * negative.sum()
    if num_pairs == 0:
        return math.nan
    return float(positive @ (np.cumsum(negative) - negative / 2) / num_pairs)


def _num_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    if labels.dtype != bool:
        raise ValueError(f"roc: want bool labels, got {labels.dtype}.")
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"roc: labels {labels.shape} and scores {scores.shape} must agree, [N].")
    if np.isnan(scores).any():
        raise ValueError(f"roc: {np.isnan(scores).sum()} of {len(scores)} scores are NaN.")
