"""Paired differences between the rows of a study, on the same images of the same patients."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from jaxlung.evaluation import intervals
from jaxlung.metrics import jackknife, paired
from jaxlung.study import compared_rows, results
from jaxlung.study import study as study_lib

LEVEL = 0.05  # Adjusted p-values up to this are beyond chance, by convention.
MOST_FOR_ALL_PAIRS = 4  # With more rows, the pairs would be so many that few could be told apart.
BEYOND, WITHIN, TOO_FEW = "beyond chance", "within chance", "too few patients"


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference between two rows in one score.

    Attributes:
        key: Key of the score.
        first: Label of the first row.
        second: Label of the second row, which is subtracted.
        value: The difference; NaN if no image has the score in both rows.
        interval: Its 95 % interval; NaN if there is none.
        p: Two-sided p-value, not adjusted; NaN for fewer than two patients.
        smallest_p: Smallest p that the test can give for so many patients.
        num_images: Number of images with the score in both rows.
        num_undefined: Number of images without it in a row, which are left out.
        num_people: Number of patients on these images; of the rarer kind for scores of a diagnosis
            that are no means over images.
        num_pairs: Number of pairs of rows that are compared in this score.
        p_adjusted: p adjusted for these pairs.
        is_mean: True for a mean over images, whose p is from a paired permutation test; False for
            a pooled score, whose p is from Student's t and the jackknife.
    """

    key: str
    first: str
    second: str
    value: float
    interval: tuple[float, float]
    p: float
    smallest_p: float
    num_images: int
    num_undefined: int
    num_people: int
    num_pairs: int = 1
    p_adjusted: float = math.nan
    is_mean: bool = True

    @property
    def verdict(self) -> str:
        """Returns `BEYOND`, `WITHIN`, `TOO_FEW`, or "" if p is unknown."""
        if self.p_adjusted <= LEVEL:
            return BEYOND
        if self.num_people < 2 or self.num_pairs * self.smallest_p > LEVEL:
            return TOO_FEW
        return "" if math.isnan(self.p_adjusted) else WITHIN


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All differences between the rows of a study.

    Attributes:
        rows: The rows, in the order of the table.
        reference: Label of the row that all others are compared with; "" for all pairs.
        differences: By score, then by pair.
        unpaired: Labels of two rows that don't test the same images, for each such pair.
        untold: Labels of rows without a table of their images.
        lacking: Score -> labels of the other rows in which it can't be compared.
    """

    rows: list[compared_rows.ComparedRow]
    reference: str
    differences: list[Difference]
    unpaired: list[tuple[str, str]]
    untold: list[str]
    lacking: dict[str, list[str]]


def make(study: study_lib.Study, shown: Sequence[results.Result]) -> Comparison | None:
    """Compares the rows of a study; None if it has fewer than two.

    Each row is compared with the study's reference. Without one, each pair is compared if there are
    at most `MOST_FOR_ALL_PAIRS` rows, else each row with the first.

    Args:
        study: The study.
        shown: Results of the runs in the table.

    Raises:
        ValueError: the scores of a run's images can't be read.
    """
    rows = compared_rows.gather(shown, study.columns)
    if len(rows) < 2:
        return None
    reference = study.reference or (rows[0].label if len(rows) > MOST_FOR_ALL_PAIRS else "")
    told = [row for row in rows if row.image_ids.size]
    pairs = [pair for pair in _pair(rows, reference) if all(row.image_ids.size for row in pair)]
    same = [(one, other) for one, other in pairs if one.tests_same_images(other)]
    return Comparison(
        rows=rows,
        reference=reference,
        differences=[each for key in study.columns for each in compare(key, same)],
        unpaired=[(a.label, b.label) for a, b in pairs if not a.tests_same_images(b)],
        untold=[row.label for row in rows if not row.image_ids.size],
        lacking={key: [row.label for row in told if not row.has(key)] for key in study.columns},
    )


def _pair(
    rows: Sequence[compared_rows.ComparedRow], reference: str
) -> list[tuple[compared_rows.ComparedRow, compared_rows.ComparedRow]]:
    if not reference:
        return [(later, earlier) for earlier, later in itertools.combinations(rows, 2)]
    fixed = next(row for row in rows if row.label == reference)
    return [(row, fixed) for row in rows if row is not fixed]


def compare(
    key: str, pairs: Sequence[tuple[compared_rows.ComparedRow, compared_rows.ComparedRow]]
) -> list[Difference]:
    """Returns the differences of all pairs that have a score; their p-values are adjusted together.

    Args:
        key: Key of the score.
        pairs: Rows that test the same images; the second is subtracted from the first.
    """
    found = [
        _compare_means(key, *pair)
        if all(key in row.scores for row in pair)
        else _compare_pooled(key, *pair)
        for pair in pairs
        if _is_shared(key, *pair)
    ]
    adjusted = paired.holm(np.array([each.p for each in found]))
    num_pairs = int(np.count_nonzero(~np.isnan(adjusted)))
    return [
        dataclasses.replace(each, num_pairs=num_pairs, p_adjusted=float(p))
        for each, p in zip(found, adjusted, strict=True)
    ]


def _is_shared(key: str, one: compared_rows.ComparedRow, other: compared_rows.ComparedRow) -> bool:
    rows = (one, other)
    return all(key in row.scores for row in rows) or all(key in row.pooled for row in rows)


def _compare_means(
    key: str, one: compared_rows.ComparedRow, other: compared_rows.ComparedRow
) -> Difference:
    each = one.scores[key] - other.scores[key]
    known = ~np.isnan(each)
    each, people = each[known], one.people[known]
    num_people = len(set(people.tolist()))
    value, left_out = _leave_out(each, people)
    return Difference(
        key=key,
        first=one.label,
        second=other.label,
        value=value,
        interval=_interval(key, value, left_out, num_people),
        p=paired.permutation_p(each, people),
        smallest_p=paired.smallest_p(num_people),
        num_images=len(each),
        num_undefined=len(known) - len(each),
        num_people=num_people,
    )


def _leave_out(each: np.ndarray, people: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the mean of [N] differences, and [G] means without each of G groups of people."""
    if not each.size:
        return math.nan, np.empty(0)
    weights = 1 - jackknife.weigh_each(jackknife.group_people(people))
    return float(each.mean()), jackknife.weighted_mean(each, weights)


def _compare_pooled(
    key: str, one: compared_rows.ComparedRow, other: compared_rows.ComparedRow
) -> Difference:
    value, *left_out = one.pooled[key] - other.pooled[key]
    groups = jackknife.group_people(one.people)
    num_people = len(set(one.people.tolist()))
    if one.is_positive.any():  # A diagnosis: the rarer kind limits what can be known.
        num_people = intervals.count_rarer(groups, one.is_positive)
    return Difference(
        key=key,
        first=one.label,
        second=other.label,
        value=float(value),
        interval=_interval(key, float(value), np.array(left_out), num_people),
        p=paired.jackknife_p(float(value), np.array(left_out), num_people),
        smallest_p=0.0,
        num_images=len(one.people),
        num_undefined=0,
        num_people=num_people,
        is_mean=False,
    )


def _interval(key: str, value: float, left_out: np.ndarray, num_people: int) -> tuple[float, float]:
    low, high = intervals.find_range(key)
    return jackknife.interval(value, left_out, num_people, low - high, high - low)
