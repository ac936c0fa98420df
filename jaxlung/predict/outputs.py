"""Writes the output folder of predictions: whole files, and tables that survive a kill -9."""

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung.host import csv_text, files, folder_lock

FAILURE_COLUMNS = ("name", "path", "reason")
COMMAND = "predictions.json"
PREDICTIONS = "predictions.csv"
FAILURES = "failures.csv"
TABLES = (COMMAND, PREDICTIONS, FAILURES)


class Table:
    """A CSV that grows by whole rows, each handed to the system when `append` returns.

    Args:
        path: the file; one process at a time may write it.
        columns: the header. A column that a row lacks, or NaN, becomes an empty cell.

    Raises:
        ValueError: another process writes the file.
    """

    def __init__(self, path: pathlib.Path, columns: Sequence[str]) -> None:
        self.columns = columns
        self._path = path
        self._file = path.open("ab", buffering=0)
        if not folder_lock.try_lock(self._file):
            self._file.close()
            raise ValueError(
                f"{path.parent}: another command predicts into it; wait for it, or choose another "
                "OUTPUT."
            )
        if not path.stat().st_size:
            self._write(_line(columns))

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row."""
        self._write(_line([_cell(row.get(column)) for column in self.columns]))

    def _write(self, line: bytes) -> None:
        with files.naming(self._path):
            while line:  # On a full disk the system first takes a part, then raises for the rest.
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Closes the file, so that others may write it."""
        self._file.close()


def _line(cells: Sequence[Any]) -> bytes:
    return csv_text.to_text([cells]).encode()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def open_tables(
    output: pathlib.Path,
    command: Mapping[str, Any],
    columns: Sequence[str],
    *,
    resume: bool,
    is_there: Callable[[str], bool],
) -> tuple[Table, Table, set[str]]:
    """Makes the output folder, or opens it to resume, and opens its tables.

    Args:
        output: the output folder.
        command: everything that predictions depend on, JSON values. Stored in
            `predictions.json`; a resumed command must have the same.
        columns: the header of a new table of predictions. A table that is resumed gets them too,
            and keeps its other columns that hold anything.
        resume: continue with the predictions in the folder.
        is_there: returns True if the outputs of a name exist; rows of others are dropped.

    Returns:
        The table of predictions, the table of failures, which is always new, and the names that
        are done.

    Raises:
        ValueError: the folder holds predictions and `resume` is False or they are another
            command's.
        OSError: the folder can't be written.
    """
    table = output / PREDICTIONS
    if is_begun(output):
        require_same(output, command, resume=resume)
    output.mkdir(parents=True, exist_ok=True)
    files.write_text(epath.Path(output / COMMAND), json.dumps(command, indent=2) + "\n")
    held = Table(table, columns)
    rows = [row for row in read_rows(table) if is_there(row["name"])]
    others = [x for x in (rows[0] if rows else ()) if x not in columns]
    columns = [*columns, *(x for x in others if any(row[x] for row in rows))]
    lines = [columns, *([row.get(x, "") for x in columns] for row in rows)]
    content = b"".join(map(_line, lines))
    if content != table.read_bytes():
        files.write_bytes(epath.Path(table), content)
        held, old = Table(table, columns), held
        old.close()
    (output / FAILURES).unlink(missing_ok=True)
    return held, Table(output / FAILURES, FAILURE_COLUMNS), {row["name"] for row in rows}


def is_begun(output: pathlib.Path) -> bool:
    """Returns True if the folder holds predictions, or a command began to write some."""
    return (output / PREDICTIONS).exists() or (output / COMMAND).exists()


def require_apart(output: pathlib.Path, names: Iterable[str], endings: Sequence[str]) -> None:
    """Raises ValueError if two outputs would be the same file, or one the folder of another.

    Case is ignored, as some file systems do. This happens for names of CTs and of folders that end
    like an output, such as "a_probs.nii.gz" beside "a.nii.gz".

    Args:
        output: the output folder.
        names: names of all items, each once.
        endings: endings that may be appended to a name, see `settings.endings`.
    """
    owners = {name: "this program" for name in TABLES}
    folders: dict[str, str] = {}
    for name in names:
        folders |= {str(folder): name for folder in pathlib.PurePosixPath(name.casefold()).parents}
        for ending in endings:
            path = f"{name}{ending}".casefold()
            if path in owners:
                _refuse(output, f"{name}{ending}", name, owners[path])
            owners[path] = name
    for path in sorted(owners.keys() & folders.keys()):
        _refuse(output, path, folders[path], owners[path])


def _refuse(output: pathlib.Path, path: str, name: str, other: str) -> None:
    raise ValueError(
        f"INPUT: {name!r} and {other!r} would both be written to {output / path}; use two output "
        "folders, or rename one."
    )


def require_same(output: pathlib.Path, command: Mapping[str, Any], *, resume: bool) -> None:
    """Raises ValueError unless the predictions in `output` may be resumed."""
    if not resume:
        raise ValueError(
            f"OUTPUT: {output} holds predictions; add --resume to continue them, or choose another "
            "folder."
        )
    stored = _load_command(output / COMMAND)
    # Commands before an option was there stored nothing for it.
    differing = [name for name in command if stored.get(name, False) != command[name]]
    if differing:
        raise ValueError(
            f"--resume: {output} holds predictions of another command ({', '.join(differing)} "
            "differ); choose another OUTPUT."
        )


def _load_command(path: pathlib.Path) -> dict[str, Any]:
    """Returns the command that `open_tables` stored.

    Raises:
        ValueError: the file is missing, or is no JSON object.
    """
    try:
        stored = json.loads(path.read_text())
        reason = f"got a {type(stored).__name__}"
    except (OSError, ValueError, RecursionError) as error:  # The last: deeply nested lists.
        stored, reason = None, str(error)
    if not isinstance(stored, dict):
        raise ValueError(
            f"--resume: {path}: want the JSON object of the command that predicted here ({reason})"
            "; choose another OUTPUT."
        )
    return stored


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the complete rows of a table; an incomplete last one, left by a kill, is dropped.

    Raises:
        ValueError: the file is no CSV table, or its header has no "name" or a name twice.
    """
    text = path.read_bytes().decode(errors="backslashreplace")
    try:
        rows = csv_text.parse(text[: text.rfind("\n") + 1])
    except ValueError as error:
        raise ValueError(f"{path}: want a CSV table, got something else ({error}).") from error
    header = rows[0] if rows else []
    if "name" not in header or len(set(header)) < len(header):
        raise ValueError(f"{path}: want a table of predictions with a column name, each one once.")
    return [dict(zip(header, row, strict=True)) for row in rows[1:] if len(row) == len(header)]


def place(output: pathlib.Path, name: str, ending: str) -> epath.Path:
    """Returns the path of an output of `name`, and makes its folder.

    Raises:
        ValueError: the path would lie outside of `output`.
    """
    path = pathlib.PurePath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r}: want a name that stays inside {output}.")
    placed = output / f"{name}{ending}"
    os.makedirs(placed.parent, exist_ok=True)
    return epath.Path(placed)


def write_json(path: epath.Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Writes a row of the table as a JSON object; what is an empty cell there is null here."""
    values = {column: _json_value(row.get(column)) for column in columns}
    files.write_text(path, json.dumps(values, indent=2) + "\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isnan(value):
        return float(_cell(value))  # The digits of the table.
    return None if _cell(value) == "" else value


def to_uint16(probs: np.ndarray) -> np.ndarray:
    """Scales probabilities in [0, 1] to [0, 65535]."""
    return np.rint(probs * np.float32(65535)).astype(np.uint16)
