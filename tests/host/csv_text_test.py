"""CSV tables with arbitrary text: no cell is a formula, and all text reads back exactly."""

import csv
import io
import math
import pathlib
import re

import numpy as np
import pytest

from jaxlung.host import csv_text

# What tables, spreadsheets and escapes give a meaning to, and letters between.
ALPHABET = ["=", "+", "-", "@", "'", '"', ",", ";", "\\", "\r", "\n", "\t", " ", "\0", "\x85"]
ALPHABET += ["\udce9", "\u2028", "\uff1d", "a", "n", "r", "x0d", "u000d", "1", ".", "é", "肺"]
FORMULAS = [
    "=1+1",
    "+1+1",
    "-a",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1",
    "-1+1",
    "--1",
]


def random_cells(count):
    np_rng = np.random.default_rng(0)
    return ["".join(np_rng.choice(ALPHABET, np_rng.integers(0, 9))) for _ in range(count)]


def test_any_text_reads_back_exactly_a_row_a_line():
    cells = random_cells(6000)
    rows = [cells[i : i + 3] for i in range(0, len(cells), 3)]
    rows = [row for row in rows if any(row)]
    text = csv_text.to_text(rows)
    assert csv_text.parse(text) == rows
    assert len(text.splitlines()) == len(rows)
    assert csv_text.to_text(csv_text.parse(text)) == text
    text.encode()  # Without surrogates.


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_cell_is_a_formula_to_a_spreadsheet(delimiter):
    cells = [*FORMULAS, *(f"a;{each}" for each in FORMULAS), *random_cells(6000)]
    text = csv_text.to_text([[cell, "b"] for cell in cells])
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        for cell in row:
            signed = cell.strip()[:1] in ("=", "+", "-", "@", "\uff1d")
            assert not signed or math.isfinite(float(cell.removesuffix(",b"))), (cell, row)


def test_numbers_stay_numbers():
    row = [-1.5, "-1.5", "+2", "-1e-05", ".5", 3, -4, math.inf, "", None]
    assert csv_text.to_text([row]) == "-1.5,-1.5,+2,-1e-05,.5,3,-4,inf,,\n"


def test_ordinary_names_are_as_any_reader_has_them():
    names = ["a", "a b", "it's", "'a'", 'a"b', "a,b", "ä/肺", "a=b", "a;b", "a-1"]
    assert next(csv.reader(io.StringIO(csv_text.to_text([names])))) == names


def test_no_other_module_writes_names_into_csv():
    root = pathlib.Path(csv_text.__file__).parents[1]
    texts = {path.name: path.read_text() for path in root.rglob("*.py")}
    writers = {name for name, text in texts.items() if re.search(r"csv\.(w|DictW)riter", text)}
    assert writers <= {"csv_text.py", "metrics_log.py"}  # The latter writes numbers alone.


def test_rows_by_column_are_whole():
    assert csv_text.parse_by_column("") == []
    assert csv_text.parse_by_column("a,b\n1,2\n3") == [{"a": "1", "b": "2"}]
    for damaged in ("a,b\n1\n1,2\n", "a,b\n1,2,3\n"):
        with pytest.raises(ValueError, match="row 1: want 2 cells, got"):
            csv_text.parse_by_column(damaged)
    with pytest.raises(ValueError, match="field larger"):
        csv_text.parse("a" * 200_000)
