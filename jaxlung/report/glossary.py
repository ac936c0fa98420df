"""What scores are called, how they are written, and in which rows they stand."""

import dataclasses
import math
from collections.abc import Collection, Sequence

from jaxlung.report import terms

DIAGNOSIS = "diagnosis"  # the task whose scores count images, not pixels


def find_term(key: str, task: str = "", levels: Sequence[str] = ()) -> terms.Term:
    """What `key` means; a key that nobody described stands for itself."""
    if key.endswith(terms.STORED):
        term = find_term(key.removesuffix(terms.STORED), task, levels)
        return dataclasses.replace(term, label=f"{term.label} at stored size")
    if task == DIAGNOSIS and key in terms.DIAGNOSIS_TERMS:
        return terms.DIAGNOSIS_TERMS[key]
    score, _, level = key.partition("_")
    if key not in terms.TERMS and score in terms.LEVEL_TERMS and level in levels:
        term = terms.LEVEL_TERMS[score]
        return dataclasses.replace(term, label=f"{term.label} {level}")
    return terms.TERMS.get(key, terms.DIAGNOSIS_TERMS.get(key, terms.Term(key, "")))


def choose_groups(keys: Collection[str], task: str, levels: Sequence[str]) -> list[terms.Group]:
    """The rows that show `keys`; those of single levels are left to a table of their own."""
    all_groups = terms.DIAGNOSIS_GROUPS if task == DIAGNOSIS else terms.GROUPS
    groups = []
    for group in all_groups:
        shown = {key: label for key, label in group.labels.items() if key in keys}
        if shown:
            groups.append(dataclasses.replace(group, labels=shown))
    known = {key for group in all_groups for key in group.labels}
    known |= {f"{score}_{level}" for score in terms.LEVEL_TERMS for level in levels}
    other = {key: find_term(key, task).label for key in keys if key not in known}
    return [*groups, terms.Group("Other", other)] if other else groups


def format_score(key: str, value: float | None) -> str:
    """`value` with its score's decimals; an en dash for None, NaN and infinity."""
    return _format(value, find_term(key).decimals)


def format_interval(key: str, interval: Sequence[float | None] | None) -> str:
    """ "0.912\N{EN DASH}0.934"; "" for None or if an end is not known.

    One decimal less than the score has, as resampling makes the last one noise; all of them if
    both ends would look the same.
    """
    if interval is None or any(end is None or not math.isfinite(end) for end in interval):
        return ""
    decimals = find_term(key).decimals
    low, high = (_format(end, decimals - 1) for end in interval)
    if low == high:
        low, high = (_format(end, decimals) for end in interval)
    return f"{low}\N{EN DASH}{high}"


def _format(value: float | None, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.{decimals}f}"
