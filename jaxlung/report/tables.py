"""Tables of scores as text: a row per score, a column per split, method or group."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jaxlung.config import run_files
from jaxlung.report import glossary, terms
from jaxlung.tasks import words

Scores = Mapping[str, float | None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: The number as it is printed.
        note: Smaller text beside the number, an interval or a share; "" for none; None leaves no
            room for one either.
        span: Number of rows that the cell spans.
    """

    text: str
    note: str | None = None
    span: int = 1


@dataclasses.dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        head: Title of the column.
        note: Smaller text below the title; "" for none.
        style: "", "strong" or "paper".
    """

    head: str
    note: str = ""
    style: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A label and a cell per column; None where the cell above spans this row too."""

    label: str
    cells: list[Cell | None]


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows under one heading; "" for no heading."""

    title: str
    rows: list[Row]


@dataclasses.dataclass(frozen=True)
class Table:
    """The heads of the columns and blocks of rows below them."""

    columns: list[Column]
    blocks: list[Block]

    @property
    def has_notes(self) -> bool:
        """Returns whether any cell has a note, so that all cells need room for one."""
        rows = [row for block in self.blocks for row in block.rows]
        return any(cell.note for row in rows for cell in row.cells if cell)


def split_table(summaries: Sequence[run_files.Summary]) -> Table:
    """Returns a table with a column per split, each followed by the published scores if any."""
    groups = find_groups(summaries[0], [summary.scores for summary in summaries])
    columns = []
    for summary in summaries:
        column = Column(summary.split, count_images(summary))
        sd = summary.sd if words.find(summary.task).is_volumetric else {}
        columns.append((column, _cells_of(summary, groups, sd)))
        if summary.paper:
            columns.append((Column("paper", "", "paper"), _paper_cells(summary.paper, groups)))
    return _table(groups, columns)


def stored_table(summaries: Sequence[run_files.Summary]) -> Table | None:
    """Returns the scores at the images' stored size by split; None if there are none."""
    stored = [
        dataclasses.replace(
            summary,
            scores=_of_stored(summary.scores),
            intervals=_of_stored(summary.intervals),
            undefined=_of_stored(summary.undefined),
            paper={},
        )
        for summary in summaries
    ]
    return split_table(stored) if any(summary.scores for summary in stored) else None


def baseline_table(summary: run_files.Summary) -> Table:
    """Returns the network beside the baselines, with the scores that any baseline has."""
    baselines = summary.baselines
    groups = find_groups(summary, [each["scores"] for each in baselines.values()])
    network = Column("network", f"step {summary.step:,}", "strong")
    columns = [(network, _cells_of(summary, groups))]
    for name, each in baselines.items():
        cells = _cells_of_part(each, summary.num_images, groups)
        columns.append((Column(spell(name), each["description"]), cells))
    return _table(groups, columns)


def group_table(summary: run_files.Summary) -> Table:
    """Returns a table with a column per group of images, and one for all images."""
    groups = find_groups(summary, [summary.scores])
    columns = []
    for name, each in summary.by_group.items():
        cells = _cells_of_part(each, each["num_images"], groups)
        number = glossary.count(each["num_images"], "image", summary.task)
        columns.append((Column(glossary.name_group(name), number), cells))
    cells = _cells_of(summary, groups)
    number = glossary.count(summary.num_images, "image", summary.task)
    columns.append((Column("all", number, "strong"), cells))
    return _table(groups, columns)


def level_table(summaries: Sequence[run_files.Summary]) -> Table | None:
    """Returns a block per score with a row per level; None if no level has scores."""
    levels = summaries[0].levels
    groups = [
        terms.Group(term.label, {f"{score}_{level}": level for level in levels})
        for score, term in terms.LEVEL_TERMS.items()
    ]
    groups = [g for g in groups if any(key in s.scores for s in summaries for key in g.labels)]
    if not groups:
        return None
    columns = [(Column(summary.split), _cells_of(summary, groups)) for summary in summaries]
    return _table(groups, columns)


def confusion_table(summary: run_files.Summary) -> Table | None:
    """Returns the confusion matrix of images; None if scores count pixels or voxels."""
    if not summary.confusion:
        return None
    rows = []
    for level, counts in zip(summary.levels, summary.confusion, strict=True):
        total = sum(counts)
        shares = [f"{100 * count / total:.1f} %" if total else "" for count in counts]
        cells = [Cell(f"{n:,}", share) for n, share in zip(counts, shares, strict=True)]
        rows.append(Row(f"is {level}", [*cells, Cell(f"{total:,}")]))
    columns = [Column(f"called {level}") for level in summary.levels]
    return Table([*columns, Column("total")], [Block("", rows)])


def find_groups(summary: run_files.Summary, columns: Sequence[Scores]) -> list[terms.Group]:
    """Returns the rows for all scores of `columns` at the network's size, without levels."""
    keys = dict.fromkeys(
        key for scores in columns for key in scores if not key.endswith(terms.STORED)
    )
    if all(scores.get("loss") == scores.get("loss_excess") for scores in columns):
        keys.pop("loss_excess", None)  # Binary targets have no floor: both rows would be the same.
    if summary.threshold == 0.5 and "accuracy_at_half" not in summary.paper:
        keys.pop("accuracy_at_half", None)  # It equals the accuracy.
    return glossary.choose_groups(keys, summary.task, summary.levels)


def count_images(summary: run_files.Summary) -> str:
    """Returns "1,166 images", with "of 800 patients" if patients are known."""
    text = glossary.count(summary.num_images, "image", summary.task)
    if summary.num_patients != summary.num_images:
        text += f" of {glossary.count(summary.num_patients, 'patient', summary.task)}"
    return text


def spell(name: str) -> str:
    """Returns a name from a file as words: "mean mask" for "mean_mask"."""
    return "HU band" if name == "hu_band" else name.replace("_", " ")


def _of_stored(by_key: Mapping[str, T]) -> dict[str, T]:
    """Returns the entries at the stored size, under their keys at the network's size."""
    suffix = terms.STORED
    return {key.removesuffix(suffix): by_key[key] for key in by_key if key.endswith(suffix)}


def _cells_of(
    summary: run_files.Summary, groups: Sequence[terms.Group], sd: Scores | None = None
) -> list[Cell | None]:
    return _cells_of_part(dataclasses.asdict(summary), summary.num_images, groups, sd)


def _cells_of_part(
    part: Mapping[str, Any],
    num_images: int,
    groups: Sequence[terms.Group],
    sd: Scores | None = None,
) -> list[Cell | None]:
    undefined = part.get("undefined", {})  # Older runs did not count them for baselines and groups.
    return [
        Cell(
            glossary.format_spread(key, part["scores"].get(key), (sd or {}).get(key)),
            glossary.format_note(
                key, part["intervals"].get(key), num_images, undefined.get(key, 0)
            ),
        )
        for group in groups
        for key in group.labels
    ]


def _paper_cells(paper: run_files.Paper, groups: Sequence[terms.Group]) -> list[Cell | None]:
    cells: list[Cell | None] = []
    for group in groups:
        if group.paper_key in paper:  # It is unknown to which of the rows it belongs.
            text = glossary.format_paper(paper[group.paper_key])
            cells += [Cell(text, span=len(group.labels)), *[None] * (len(group.labels) - 1)]
        else:
            cells += [
                Cell(glossary.format_paper(paper[key]) if key in paper else "")
                for key in group.labels
            ]
    return cells


def _table(
    groups: Sequence[terms.Group], columns: Sequence[tuple[Column, list[Cell | None]]]
) -> Table:
    rows = zip(*(cells for _, cells in columns), strict=True)
    blocks = [
        Block(group.title, [Row(label, list(next(rows))) for label in group.labels.values()])
        for group in groups
    ]
    return Table([column for column, _ in columns], blocks)
