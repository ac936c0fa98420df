"""The text of a sweep, made once for both Markdown and HTML."""

import dataclasses
from collections.abc import Sequence

from jaxlung.report import glossary, tables
from jaxlung.study import importance, sweep, sweep_results

DASH = "\N{EN DASH}"
STATES = {
    "best": "best, scored on the {split} split",
    "trained": "trained to the end",
    "stopped": "stopped after epoch {epochs}",
    "failed": "failed: {failure}",
}


@dataclasses.dataclass(frozen=True)
class SweepContents:
    """The sections of a sweep; the text is not escaped.

    Attributes:
        runs: A row per run, best first: validation score, epochs, and what became of it.
        sentences: Remarks on `runs`.
        effects: A row per value, or third of the values, of each field.
        remarks: Remarks on `effects`.
        chart: Alternative text of the figure of scores by field.
        label: Name of the score in the figure, with its epoch.
    """

    runs: tables.Table
    sentences: list[str]
    effects: tables.Table
    remarks: list[str]
    chart: str
    label: str


def make(found: sweep_results.SweepResults, task: str, split: str) -> SweepContents:
    """Returns the text of a decided sweep.

    Args:
        found: Results of its runs.
        task: Name of the task, for the names of scores.
        split: The split on which the best run is scored.
    """
    label = f"validation {lower(glossary.find_term(found.key, task).label)}"
    first = f"{label} after epoch {found.first_epochs}"
    return SweepContents(
        runs=_runs_table(found, label, split),
        sentences=_describe_runs(found, label, split),
        effects=_effects_table(found, first),
        remarks=_describe_effects(found, first),
        chart=f"{upper(first)} of each run by {glossary.join(_names(found))}. Runs that were "
        "stopped there or later are hollow circles, failed runs crosses.",
        label=first,
    )


def lower(label: str) -> str:
    """Returns a label inside a sentence: "mean IoU" for "Mean IoU"; "IoU" stays."""
    return label[0].lower() + label[1:] if label[1:2].islower() else label


def upper(text: str) -> str:
    """Returns a text with a capital letter at the beginning."""
    return text[0].upper() + text[1:]


def _names(found: sweep_results.SweepResults) -> list[str]:
    return [*sweep.short_names(found.outcomes[0].values).values()]


def _runs_table(found: sweep_results.SweepResults, label: str, split: str) -> tables.Table:
    rows = []
    for outcome in found.outcomes:
        state = STATES[outcome.state].format(
            split=split, epochs=outcome.epochs, failure=outcome.failure
        )
        score = glossary.format_score(found.key, outcome.score)
        cells = [tables.Cell(score), tables.Cell(str(outcome.epochs)), tables.Cell(state)]
        rows.append(tables.Row(outcome.run.label, [*cells]))
    columns = [tables.Column(label), tables.Column("epochs"), tables.Column("what became of it")]
    return tables.Table(columns, [tables.Block("", rows)])


def _describe_runs(found: sweep_results.SweepResults, label: str, split: str) -> list[str]:
    """Returns how the runs were compared, what the stops saved, and what the best score means."""
    *stops, end = found.rungs
    lowest = "lowest" if found.key == "loss" else "highest"
    sentences = [
        f"Runs are compared by {label}, the {lowest} first. Only the best one is scored on the "
        f"{split} split, so that the {split} split chooses nothing. The score that made a run the "
        "best of many is a little too good; its score on the "
        f"{split} split is not.",
    ]
    if stops:
        listed = [
            f"after epoch {rung.epochs}, {after.num_runs} of {rung.num_runs} runs went on"
            for rung, after in zip(stops, found.rungs[1:], strict=True)
        ]
        whole = len(found.outcomes) * end.epochs
        sentences.append(
            f"Successive halving (Jamieson and Talwalkar, 2016) stopped the others: "
            f"{'; '.join(listed)}. The runs trained {found.num_epochs:,} epochs together; all runs "
            f"to the end would have been {whole:,}. A stopped run has its score at the stop, and "
            "keeps its checkpoint."
        )
    return sentences


def _effects_table(found: sweep_results.SweepResults, first: str) -> tables.Table:
    names = sweep.short_names(found.outcomes[0].values)
    columns = [tables.Column("runs"), tables.Column("mean score", first)]
    blocks = []
    for effect in found.effects:
        rows = []
        for group in effect.groups:
            failed = f", {group.num_failed} failed" if group.num_failed else ""
            cells = [
                tables.Cell(f"{group.num_runs}{failed}"),
                tables.Cell(glossary.format_score(found.key, group.mean)),
            ]
            rows.append(tables.Row(spell_group(group), [*cells]))
        blocks.append(tables.Block(names[effect.field], rows))
    return tables.Table(columns, blocks)


def _describe_effects(found: sweep_results.SweepResults, first: str) -> list[str]:
    """Returns a sentence per field, how they were measured, and how little few runs can show."""
    names = sweep.short_names(found.outcomes[0].values)
    return [
        *(_describe_effect(names[effect.field], effect, found.key) for effect in found.effects),
        f"Shares are of the variance of the ranks of {first}, where all runs are compared: the "
        "part that lies between the values of a field (eta squared, as in Kruskal and Wallis's "
        f"test); more than {importance.MOST_VALUES} different numbers are put into thirds, and "
        "failed runs are ranked last. Shares of fields that act together or were drawn together "
        "overlap.",
        *_warn_of_few(found),
    ]


def _describe_effect(name: str, effect: importance.Effect, key: str) -> str:
    if effect.share is None or effect.by_chance is None:
        return f"`{name}`: nothing can be said, as all its values or all scores are equal."
    if effect.by_chance > 0.995:
        return f"`{name}`: nothing can be said, as among so few runs chance can explain as much."
    text = f"`{name}` explains {percent(effect.share)} of the differences between runs"
    bound = percent(effect.by_chance)
    if not effect.is_beyond_chance:
        return f"{text}. That may be chance, which explains up to {bound}."
    known = [group for group in effect.groups if group.mean is not None]
    best = sorted(known, key=lambda group: group.mean or 0.0, reverse=key != "loss")[0]
    text += (
        f". That is beyond chance, which explains up to {bound}. Runs with {spell_group(best)} "
        "scored best"
    )
    if effect.correlation is None:
        return f"{text}."
    return f"{text}; Spearman's correlation of value and quality is {effect.correlation:+.2f}."


def spell_group(group: importance.Group) -> str:
    """Returns the value of a group of runs, or the lowest and the highest: "0.1 to 0.5"."""
    return " to ".join(map(sweep.spell_value, group.values))


def _warn_of_few(found: sweep_results.SweepResults) -> Sequence[str]:
    bounds = [effect.by_chance for effect in found.effects if effect.by_chance is not None]
    if not bounds:
        return ()
    return (
        f"With {len(found.outcomes)} runs, each trained once, a field must explain more than "
        f"{percent(min(bounds))} of the differences to be told from chance. Smaller effects may be "
        "there and don't show.",
    )


def percent(share: float) -> str:
    """Returns a share in percent: "67 %"."""
    return f"{100 * share:.0f} %"
