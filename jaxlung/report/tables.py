"""Scores laid out as tables of text."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxlung.report import glossary, run_files

Scores = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Cell:
    """Text over `span` columns."""

    text: str
    span: int = 1


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        head: what the line is about.
        note: smaller text below the head, or "".
        cells: spans sum to the number of columns.
        style: "", "strong" or "paper".
    """

    head: str
    note: str
    cells: list[Cell]
    style: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under two levels of headings; both are cells, and the spans of both agree."""

    groups: list[Cell]
    columns: list[Cell]
    rows: list[Row]


def split_table(summaries: Sequence[run_files.Summary]) -> Table:
    """A row per split, the paper's row below it where there are numbers."""
    groups = _groups_of(summaries[0].levels, [summary.scores for summary in summaries])
    rows = []
    for summary in summaries:
        rows.append(
            _score_row(summary.split, f"{summary.num_images:,} images", summary.scores, groups)
        )
        if summary.paper:
            rows.append(Row("the paper", "", _paper_cells(summary.paper, groups), "paper"))
    return _table(groups, rows)


def stored_table(summaries: Sequence[run_files.Summary]) -> Table | None:
    """The scores at the images' stored size, a row per split; None if there are none."""
    stored = [
        dataclasses.replace(summary, scores=_stored_scores(summary.scores), paper={})
        for summary in summaries
    ]
    return split_table(stored) if any(summary.scores for summary in stored) else None


def baseline_table(summary: run_files.Summary) -> Table:
    """The network above the baselines, with the scores that any baseline has."""
    baselines = summary.baselines
    groups = _groups_of(summary.levels, [each["scores"] for each in baselines.values()])
    rows = [_score_row("network", f"step {summary.step:,}", summary.scores, groups, "strong")]
    for name, each in baselines.items():
        rows.append(_score_row(spell(name), each["description"], each["scores"], groups))
    return _table(groups, rows)


def group_table(summary: run_files.Summary) -> Table:
    """A row per group of images, and all together."""
    groups = _groups_of(summary.levels, [summary.scores])
    rows = [
        _score_row(name, f"{each['num_images']:,} images", each["scores"], groups)
        for name, each in summary.by_group.items()
    ]
    rows.append(
        _score_row("all", f"{summary.num_images:,} images", summary.scores, groups, "strong")
    )
    return _table(groups, rows)


def level_table(summaries: Sequence[run_files.Summary]) -> Table | None:
    """A row per level, a column per score and split; None if no level has scores."""
    levels = summaries[0].levels
    names = [
        name
        for name in glossary.LEVEL_TERMS
        if any(f"{name}_{level}" in summary.scores for summary in summaries for level in levels)
    ]
    if not names:
        return None
    rows = []
    for level in levels:
        keys = [f"{name}_{level}" for name in names]
        values = [(key, summary.scores.get(key)) for key in keys for summary in summaries]
        rows.append(Row(level, "", [Cell(glossary.format_score(*value)) for value in values]))
    groups = [Cell(glossary.LEVEL_TERMS[name].label, len(summaries)) for name in names]
    return Table(groups, [Cell(summary.split) for summary in summaries] * len(names), rows)


def spell(name: str) -> str:
    """A name from a file for readers: "mean_mask" is a mean mask."""
    return name.replace("_", " ")


def _stored_scores(scores: Scores) -> Scores:
    """Scores at the stored size by the keys that they have at the network's."""
    suffix = glossary.STORED
    return {key.removesuffix(suffix): scores[key] for key in scores if key.endswith(suffix)}


def _groups_of(levels: Sequence[str], rows: Sequence[Scores]) -> list[glossary.Group]:
    keys = dict.fromkeys(
        key for scores in rows for key in scores if not key.endswith(glossary.STORED)
    )
    if all(scores.get("loss") == scores.get("loss_excess") for scores in rows):
        keys.pop("loss_excess", None)  # Binary targets have no floor: one column says it all.
    return glossary.choose_groups(keys, levels)


def _score_row(
    head: str, note: str, scores: Scores, groups: Sequence[glossary.Group], style: str = ""
) -> Row:
    keys = [key for group in groups for key in group.columns]
    cells = [Cell(glossary.format_score(key, scores.get(key))) for key in keys]
    return Row(head, note, cells, style)


def _paper_cells(paper: Scores, groups: Sequence[glossary.Group]) -> list[Cell]:
    cells = []
    for group in groups:
        if group.paper_key in paper:  # Which of the columns it belongs to is not known.
            text = glossary.format_score(group.paper_key, paper[group.paper_key])
            cells.append(Cell(text, len(group.columns)))
        else:
            cells += [
                Cell(glossary.format_score(key, paper[key]) if key in paper else "")
                for key in group.columns
            ]
    return cells


def _table(groups: Sequence[glossary.Group], rows: list[Row]) -> Table:
    return Table(
        [Cell(group.title, len(group.columns)) for group in groups],
        [Cell(label) for group in groups for label in group.columns.values()],
        rows,
    )
