"""What scores are called, how they are written, and in which rows they stand."""

import dataclasses
import math
from collections.abc import Collection, Sequence

from jaxlung.report import terms, volume_terms

DIAGNOSIS = "diagnosis"  # the task whose scores count images, not pixels
VOLUME_MASK = "volume_mask"  # the task on CT


def find_term(key: str, task: str = "", levels: Sequence[str] = ()) -> terms.Term:
    """What `key` means; a key that nobody described stands for itself."""
    if key.endswith(terms.STORED):
        term = find_term(key.removesuffix(terms.STORED), task, levels)
        return dataclasses.replace(term, label=f"{term.label} at stored size")
    if task == DIAGNOSIS and key in terms.DIAGNOSIS_TERMS:
        return terms.DIAGNOSIS_TERMS[key]
    if key in volume_terms.TERMS and (task == VOLUME_MASK or key not in terms.TERMS):
        return volume_terms.TERMS[key]
    score, _, level = key.partition("_")
    if key not in terms.TERMS and score in terms.LEVEL_TERMS and level in levels:
        term = terms.LEVEL_TERMS[score]
        return dataclasses.replace(term, label=f"{term.label} {level}")
    return terms.TERMS.get(key, terms.DIAGNOSIS_TERMS.get(key, terms.Term(key, "")))


def choose_groups(keys: Collection[str], task: str, levels: Sequence[str]) -> list[terms.Group]:
    """The rows that show `keys`; those of single levels are left to a table of their own."""
    by_task = {DIAGNOSIS: terms.DIAGNOSIS_GROUPS, VOLUME_MASK: volume_terms.GROUPS}
    all_groups = by_task.get(task, terms.GROUPS)
    groups = []
    for group in all_groups:
        shown = {key: label for key, label in group.labels.items() if key in keys}
        if shown:
            groups.append(dataclasses.replace(group, labels=shown))
    known = {key for group in all_groups for key in group.labels}
    known |= {f"{score}_{level}" for score in terms.LEVEL_TERMS for level in levels}
    other = {key: find_term(key, task).label for key in keys if key not in known}
    return [*groups, terms.Group("Other", other)] if other else groups


def reword(text: str, task: str) -> str:
    """What is said of images and their pixels in the words of `task`."""
    return volume_terms.reword(text) if task == VOLUME_MASK else text


def count(number: int, noun: str, task: str) -> str:
    """ "1,166 images", "4 volumes", "1 volume" """
    return f"{number:,} {reword(noun, task)}{'' if number == 1 else 's'}"


def name_group(name: str) -> str:
    """The head of a group's column; some images may be of none."""
    return name.strip() or "no group"


def empty_rule(task: str) -> str:
    """How empty masks score, and what has no score."""
    return terms.DIAGNOSIS_EMPTY_RULE if task == DIAGNOSIS else reword(terms.EMPTY_RULE, task)


def counted(task: str) -> str:
    """What the probabilities of `task` are of: "pixels", "voxels" or "images"."""
    return "images" if task == DIAGNOSIS else reword("pixels", task)


def format_score(key: str, value: float | None) -> str:
    """`value` with its score's decimals; an en dash for None, NaN and infinity."""
    term = find_term(key)
    return _format(value, term.decimals, term.scale)


def format_paper(number: float | Sequence[float]) -> str:
    """A paper's number with its own digits; two numbers are a range that the paper gives."""
    numbers = number if isinstance(number, Sequence) else [number]
    return "\N{EN DASH}".join(map(str, numbers))


def format_spread(key: str, value: float | None, sd: float | None) -> str:
    """ "0.763 \N{PLUS-MINUS SIGN} 0.081", a decimal less than the score has alone, without `sd`."""
    if sd is None:
        return format_score(key, value)
    term = find_term(key)
    mean, around = (_format(x, term.decimals - 1, term.scale) for x in (value, sd))
    return f"{mean} \N{PLUS-MINUS SIGN} {around}"


def format_interval(key: str, interval: Sequence[float | None] | None) -> str:
    """ "0.912\N{EN DASH}0.934"; "" for None or if an end is not known.

    One decimal less than the score has, as resampling makes the last one noise; all of them if
    both ends would look the same.
    """
    if interval is None or any(end is None or not math.isfinite(end) for end in interval):
        return ""
    term = find_term(key)
    low, high = (_format(end, term.decimals - 1, term.scale) for end in interval)
    if low == high:
        low, high = (_format(end, term.decimals, term.scale) for end in interval)
    # A dash between two negative numbers would read as a third minus.
    between = " to " if "-" in low + high else "\N{EN DASH}"
    return f"{low}{between}{high}"


def format_note(
    key: str, interval: Sequence[float | None] | None, total: int, undefined: int
) -> str:
    """ "0.912\N{EN DASH}0.934, n = 38" of 40 images, 2 of which have no such score.

    Without the number where all have one.
    """
    number = f"n = {total - undefined:,}" if undefined else ""
    return ", ".join(part for part in (format_interval(key, interval), number) if part)


def _format(value: float | None, decimals: int, scale: float) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value * scale:.{decimals}f}"
