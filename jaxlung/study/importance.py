"""Measures how much each field of a sweep mattered for the scores of its runs.

Our choice, for the few runs of a sweep: the share of the variance of the scores' ranks that lies
between the values of a field (eta squared; the statistic of Kruskal and Wallis, 1952, over N - 1),
compared with the shares after random permutations of the scores. Ranks, so that one diverged run
doesn't decide, and failed runs count as the worst. Values of numbers are put into thirds, so that a
best value in the middle shows, and Spearman's rank correlation tells the direction.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

MOST_VALUES = 4  # With more, numbers are put into thirds.
LEVEL = 0.05  # chance that any field of a sweep without effects exceeds its `by_chance`
_PERMUTATIONS = 9_999


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs with the same value of a field, or with values in the same third.

    Attributes:
        values: The value, or the lowest and the highest.
        mean: Mean score of the runs that have one; None if all failed.
        num_runs: Number of runs.
        num_failed: Number of these that failed.
    """

    values: tuple[Any, ...]
    mean: float | None
    num_runs: int
    num_failed: int


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one field.

    Attributes:
        field: The field.
        groups: The runs by value.
        share: Share of the variance of the scores' ranks between the groups, in [0, 1]; None if
            all runs have the same value or the same score.
        by_chance: The share that a field without effect stays below, except for 5 % of sweeps
            (Bonferroni's correction for the number of fields); None without `share`.
        correlation: Spearman's rank correlation of value and score, in [-1, 1]; None for values
            that aren't numbers, or without `share`.
    """

    field: str
    groups: tuple[Group, ...]
    share: float | None
    by_chance: float | None
    correlation: float | None

    @property
    def is_beyond_chance(self) -> bool:
        """True if the share is larger than chance explains."""
        if self.share is None or self.by_chance is None:
            return False
        return self.share > self.by_chance + 1e-9  # Equal shares differ in the last bits.


def measure(
    runs: Sequence[Mapping[str, Any]], scores: Sequence[float | None]
) -> tuple[Effect, ...]:
    """Returns the effect of each field, the largest share first.

    Args:
        runs: Field -> value, for each run; all have the same fields.
        scores: Score of each run, higher is better; None for a failed run.
    """
    level = LEVEL / len(runs[0])
    effects = [_measure(field, [run[field] for run in runs], scores, level) for field in runs[0]]
    return tuple(sorted(effects, key=lambda x: -1.0 if x.share is None else x.share, reverse=True))


def _measure(
    field: str, values: Sequence[Any], scores: Sequence[float | None], level: float
) -> Effect:
    groups = split(values)
    members = np.array([[value in group for group in groups] for value in values], float)
    ranks = stats.rankdata([-math.inf if score is None else score for score in scores])
    found = tuple(
        _describe(group, [x for x, is_in in zip(scores, column, strict=True) if is_in])
        for group, column in zip(groups, members.T, strict=True)
    )
    if len(groups) == 1 or np.ptp(ranks) == 0:
        return Effect(field, found, None, None, None)
    rows = np.tile(ranks, (_PERMUTATIONS, 1))
    shares = explained(np.random.default_rng(0).permuted(rows, axis=1), members)
    return Effect(
        field,
        found,
        share=float(explained(ranks, members)),
        by_chance=float(np.quantile(shares, 1 - level, method="higher")),
        correlation=float(stats.spearmanr(values, ranks)[0]) if are_numbers(values) else None,
    )


def explained(ranks: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Returns eta squared: the share of the variance that lies between groups.

    Args:
        ranks: [..., N], not all equal.
        members: [N, G], 1.0 where a run is in a group, else 0.0; no group is empty.

    Returns:
        [...] in [0, 1].
    """
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    between = ((centred @ members) ** 2 / members.sum(axis=0)).sum(axis=-1)
    return between / (centred**2).sum(axis=-1)


def split(values: Sequence[Any]) -> list[list[Any]]:
    """Returns the different values in groups: one value each, or thirds of many numbers."""
    if not are_numbers(values):
        return [[value] for value in _different(values)]
    ordered = sorted(_different(values))
    if len(ordered) <= MOST_VALUES:
        return [[value] for value in ordered]
    return [[ordered[place] for place in part] for part in np.array_split(range(len(ordered)), 3)]


def _different(values: Sequence[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def are_numbers(values: Sequence[Any]) -> bool:
    """Returns whether all values are numbers, which have an order."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _describe(values: Sequence[Any], scores: Sequence[float | None]) -> Group:
    known = [score for score in scores if score is not None]
    mean = statistics.fmean(known) if known else None
    ends = (values[0],) if len(values) == 1 else (values[0], values[-1])
    return Group(ends, mean, len(scores), len(scores) - len(known))
