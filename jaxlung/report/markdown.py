"""Text, lists, tables and pictures in Markdown: CommonMark, with GitHub's tables."""

import re
from collections.abc import Sequence

from jaxlung.report import tables

# Characters that may be markup anywhere; underscores only where they don't join two letters.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")


def escape(text: str) -> str:
    """Returns plain text, as from a user's files, on one line and with its markup escaped.

    Only a character that begins a line may still be read as a list or a heading.
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def bullets(sentences: Sequence[str]) -> str:
    """Returns a list of sentences, which are Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    rule: str = "---:",
    marks: Sequence[str] = (),
) -> str:
    """Returns a table whose first column is aligned left.

    Args:
        head: Plain text of each column's head.
        rows: Plain text of the cells, row by row.
        rule: Alignment of the other columns.
        marks: Emphasis of each row's first cell, "", "*" or "**"; () for none.
    """
    lines = [[escape(text) for text in head], ["---", *[rule] * (len(head) - 1)]]
    for row, mark in zip(rows, marks or [""] * len(rows), strict=True):
        first, *others = map(escape, row)
        lines.append([f"{mark}{first}{mark}", *others])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score_table(shown: tables.Table) -> str:
    """Returns a table of the report, with notes in brackets and block titles before row labels."""
    head = [f"{x.head} ({x.note})" if x.note else x.head for x in shown.columns]
    rows = [
        [f"{block.title}: {row.label}" if block.title else row.label, *map(cell_text, row.cells)]
        for block in shown.blocks
        for row in block.rows
    ]
    return table(["", *head], rows)


def cell_text(cell: tables.Cell | None) -> str:
    """Returns a cell with its note in brackets, as "0.9123 (0.901\N{EN DASH}0.920)"."""
    if cell is None:  # The cell above spans this row too.
        return "as above"
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def picture(alt: str, path: str) -> str:
    """Returns a picture with its alternative text, which is plain."""
    return f"![{alt.replace('[', '(').replace(']', ')')}]({path})"
