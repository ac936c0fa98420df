"""CSV tables that are safe to open in a spreadsheet and read back exactly.

Text may come from file names, which can hold anything. Writing follows two rules, which reading
undoes:

- `\\` and characters that don't print (control characters, line separators, bytes that are no
  UTF-8, which Python holds as surrogates) are escaped as in Python: `a\\rb`, `\\udce9`. So every
  row is one line.
- A cell that a spreadsheet would run as a formula (it begins with = + - @) is preceded by ', as
  OWASP recommends. Numbers stay as they are.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

_SIGNS = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"  # the last four are the full-width forms
# Quotes before a sign are matched, too, so that a name that begins with one reads back as itself.
_TO_MARK = re.compile(rf"'*\s*{_SIGNS}")
_MARKED = re.compile(rf"'+\s*{_SIGNS}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
# The ; at the end is escaped before a sign, as some spreadsheets split cells at it.
_UNSAFE = re.compile(rf"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|;(?=['\s]*{_SIGNS})")
_LETTERS = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPES = {character: f"\\{letter}" for letter, character in _LETTERS.items()}
_ESCAPED = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def to_text(rows: Iterable[Sequence[Any]]) -> str:
    """Returns the table as text, a line per row; cells other than text are written by `str`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_escape(x) if isinstance(x, str) else x for x in row] for row in rows)
    return text.getvalue()


def parse(text: str) -> list[list[str]]:
    """Returns the rows of a CSV, written by `to_text` or not.

    Raises:
        ValueError: the text is no CSV table.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [[_unescape(cell) for cell in row] for row in rows if row]


def parse_by_column(text: str) -> list[dict[str, str]]:
    """Returns the rows below the header as dicts by column; an incomplete last row is left out.

    Raises:
        ValueError: the text is no CSV table, or a row has more or fewer cells than the header.
    """
    header, *rows = parse(text) or [[]]
    if rows and len(rows[-1]) < len(header):  # A killed run may leave one.
        rows.pop()
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f"row {number}: want {len(header)} cells, got {len(row)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _escape(cell: str) -> str:
    if _NUMBER.fullmatch(cell):
        return cell
    cell = _UNSAFE.sub(_escape_one, cell)
    return f"'{cell}" if _TO_MARK.match(cell) else cell


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _unescape(cell: str) -> str:
    cell = cell[1:] if _MARKED.match(cell) else cell
    return _ESCAPED.sub(_unescape_one, cell)


def _unescape_one(match: re.Match[str]) -> str:
    letter, *codes = match.groups()
    return _LETTERS[letter] if letter else chr(int(codes[0] or codes[1], 16))
