"""Names, definitions and number formats of scores, in the words of a task."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from jaxlung.report import diagnosis_terms, terms, volume_terms
from jaxlung.tasks import words


def find_term(key: str, task: str = "", levels: Sequence[str] = ()) -> terms.Term:
    """Returns the definition of a score.

    Args:
        key: Key of the score, as in `summary_<split>.json`.
        task: Name of the task; "" if unknown.
        levels: Names of the levels, which may end the key.

    Returns:
        The definition; the key itself without a definition if there is none.
    """
    if key.endswith(terms.STORED):
        term = find_term(key.removesuffix(terms.STORED), task, levels)
        return dataclasses.replace(term, label=f"{term.label} at stored size")
    own = _own_terms(task)
    if key in own:
        return own[key]
    score, _, level = key.partition("_")
    if key not in terms.TERMS and score in terms.LEVEL_TERMS and level in levels:
        term = terms.LEVEL_TERMS[score]
        return dataclasses.replace(term, label=f"{term.label} {level}")
    for known in (terms.TERMS, volume_terms.TERMS, diagnosis_terms.TERMS):
        if key in known:
            return known[key]
    return terms.Term(key, "")


def _own_terms(task: str) -> Mapping[str, terms.Term]:
    """Returns the definitions that differ from those for pixels of images."""
    found = words.find(task)
    if found.counts_images:
        return diagnosis_terms.TERMS
    return volume_terms.TERMS if found.is_volumetric else {}


def choose_groups(keys: Collection[str], task: str, levels: Sequence[str]) -> list[terms.Group]:
    """Returns the rows that show scores, without the scores of single levels.

    Args:
        keys: Keys of the scores.
        task: Name of the task.
        levels: Names of the levels.
    """
    found = words.find(task)
    all_groups: Sequence[terms.Group] = terms.GROUPS
    if found.counts_images:
        all_groups = diagnosis_terms.GROUPS
    elif found.is_volumetric:
        all_groups = volume_terms.GROUPS
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
    """Returns a text about images and pixels in the words of the task."""
    return volume_terms.reword(text) if words.find(task).is_volumetric else text


def count(number: int, noun: str, task: str) -> str:
    """Returns a number with its noun: "1,166 images", "4 volumes", "1 volume"."""
    return f"{number:,} {reword(noun, task)}{'' if number == 1 else 's'}"


def join(names: Sequence[str]) -> str:
    """Returns "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def name_group(name: str) -> str:
    """Returns the label of a group of images; images without a group have an empty name."""
    return name.strip() or "no group"


def empty_rule(task: str) -> str:
    """Returns the rule for empty masks and for scores without a value."""
    if words.find(task).counts_images:
        return diagnosis_terms.EMPTY_RULE
    return reword(terms.EMPTY_RULE, task)


def counted(task: str) -> str:
    """Returns what the probabilities of the task belong to: "pixels", "voxels" or "images"."""
    return f"{words.find(task).unit}s"


def label_with_unit(term: terms.Term) -> str:
    """Returns "HD95, mm"; the label alone without a unit."""
    return f"{term.label}, {term.unit}" if term.unit else term.label


def format_score(key: str, value: float | None) -> str:
    """Returns a score with its number of decimals; an en dash for None, NaN and infinity."""
    term = find_term(key)
    return _format(value, term.decimals, term.scale)


def format_difference(key: str, value: float) -> str:
    """Returns a difference between two scores with its sign; an en dash for NaN."""
    text = format_score(key, value)
    if not math.isfinite(value):
        return text
    number = float(text)
    return f"+{text}" if number > 0 else text if number else text.removeprefix("-")


def format_paper(number: float | Sequence[float]) -> str:
    """Returns a published score with the digits it was printed with; two numbers are a range."""
    numbers = number if isinstance(number, Sequence) else [number]
    return "\N{EN DASH}".join(map(str, numbers))


def format_spread(key: str, value: float | None, sd: float | None) -> str:
    """Returns a mean with its standard deviation: "0.763 \N{PLUS-MINUS SIGN} 0.081".

    Both have one decimal less than the score alone, which is returned if `sd` is None.
    """
    if sd is None:
        return format_score(key, value)
    term = find_term(key)
    mean, around = (_format(x, term.decimals - 1, term.scale) for x in (value, sd))
    return f"{mean} \N{PLUS-MINUS SIGN} {around}"


def format_interval(key: str, interval: Sequence[float | None] | None) -> str:
    """Returns "0.912\N{EN DASH}0.934"; "" for None or if an end is unknown.

    The ends have one decimal less than the score, as the last decimal is noise; they have all
    decimals if they would look the same otherwise.
    """
    if interval is None or any(end is None or not math.isfinite(end) for end in interval):
        return ""
    term = find_term(key)
    low, high = (_format(end, term.decimals - 1, term.scale) for end in interval)
    if low == high:
        low, high = (_format(end, term.decimals, term.scale) for end in interval)
    # A dash between two negative numbers would look like a third minus sign.
    between = " to " if "-" in low + high else "\N{EN DASH}"
    return f"{low}{between}{high}"


def format_note(
    key: str, interval: Sequence[float | None] | None, total: int, undefined: int
) -> str:
    """Returns the interval and, if images lack the score, how many have it.

    Args:
        key: Key of the score.
        interval: [low, high], or None.
        total: Number of images.
        undefined: Number of images without the score.

    Returns:
        "0.912\N{EN DASH}0.934, n = 38", without the parts that do not apply.
    """
    number = f"n = {total - undefined:,}" if undefined else ""
    return ", ".join(part for part in (format_interval(key, interval), number) if part)


def _format(value: float | None, decimals: int, scale: float) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value * scale:.{decimals}f}"
