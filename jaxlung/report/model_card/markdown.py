"""Text, lists and tables as Markdown: CommonMark, with tables as GitHub has them."""

import re
from collections.abc import Sequence

from jaxlung.report import tables

# What may be markup wherever it stands; of underscores those that don't join two letters.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")


def escape(text: str) -> str:
    """Text from a user's files, to be read as it is: on one line, and none of it markup.

    Only what begins a line may still be taken for a list or a heading.
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def bullets(sentences: Sequence[str]) -> str:
    """A list of sentences, which are Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], rule: str = "---:") -> str:
    """A table, its first column aligned left.

    Args:
        head: plain text, of every column.
        rows: of as many cells, plain text.
        rule: how the other columns are aligned.
    """
    lines = [map(escape, head), ["---", *[rule] * (len(head) - 1)]]
    lines += [map(escape, row) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score_table(shown: tables.Table) -> str:
    """A table of the report: intervals in brackets, titles of blocks before their rows' labels."""
    head = [f"{x.head} ({x.note})" if x.note else x.head for x in shown.columns]
    rows = [
        [f"{block.title}: {row.label}" if block.title else row.label, *map(_cell, row.cells)]
        for block in shown.blocks
        for row in block.rows
    ]
    return table(["", *head], rows)


def _cell(cell: tables.Cell | None) -> str:
    if cell is None:  # The cell above spans this row too.
        return "as above"
    return f"{cell.text} ({cell.note})" if cell.note else cell.text
