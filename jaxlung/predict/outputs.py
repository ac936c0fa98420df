"""The folder that predictions go to: whole files, and tables that survive a kill -9."""

import fcntl
import io
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from jaxlung.host import csv_text, files
from jaxlung.predict import ensemble, measure

COLUMNS = (
    "name",
    "path",
    "kind",
    "diagnosis",
    "covid19_probability",
    *measure.COLUMNS,
    *(f"{role}_disagreement" for role in ensemble.ROLES),  # 0 to 0.5
    "seconds",
)
FAILURE_COLUMNS = ("name", "path", "reason")
COMMAND = "predictions.json"
PREDICTIONS = "predictions.csv"
FAILURES = "failures.csv"
TABLES = (COMMAND, PREDICTIONS, FAILURES)


class Table:
    """A CSV that grows by whole rows, each of them on its way to the disk when `append` returns.

    Args:
        path: there is one writer at a time.
        columns: its header; what a row doesn't have, and NaN, is an empty cell.

    Raises:
        ValueError: another process writes it.
    """

    def __init__(self, path: pathlib.Path, columns: Sequence[str]) -> None:
        self._columns = columns
        self._path = path
        self._file = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ValueError(
                f"{path.parent}: another command predicts into it; wait for it, or choose another "
                "--output."
            ) from error
        if not path.stat().st_size:
            self._write(_line(columns))

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row."""
        self._write(_line([_cell(row.get(column)) for column in self._columns]))

    def _write(self, line: bytes) -> None:
        with files.naming(self._path):
            while line:  # Of a full disk the system takes a part first, and complains of the next.
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Lets others write."""
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
    *,
    resume: bool,
    is_there: Callable[[str], bool],
) -> tuple[Table, Table, set[str]]:
    """Makes the folder, or opens it to go on.

    Args:
        output: the folder.
        command: what predictions depend on; kept in `predictions.json`, and the same to go on.
        resume: go on with what is there.
        is_there: whether the mask of a name is; rows without are dropped.

    Returns:
        The tables of predictions and of failures, which begins anew, and the names that are done.

    Raises:
        ValueError: it holds predictions, and those of other networks or unless `resume`.
        OSError: it can't be written.
    """
    table = output / PREDICTIONS
    if is_begun(output):
        require_same(output, command, resume=resume)
    output.mkdir(parents=True, exist_ok=True)
    files.write_text(epath.Path(output / COMMAND), json.dumps(command, indent=2) + "\n")
    held = Table(table, COLUMNS)
    rows = [row for row in read_rows(table, COLUMNS) if is_there(row["name"])]
    content = _line(COLUMNS) + b"".join(_line([row[x] for x in COLUMNS]) for row in rows)
    if content != table.read_bytes():
        files.write_bytes(epath.Path(table), content)
        held, old = Table(table, COLUMNS), held
        old.close()
    (output / FAILURES).unlink(missing_ok=True)
    return held, Table(output / FAILURES, FAILURE_COLUMNS), {row["name"] for row in rows}


def is_begun(output: pathlib.Path) -> bool:
    """Returns whether the folder holds the predictions of a command, or their beginning."""
    return (output / PREDICTIONS).exists() or (output / COMMAND).exists()


def require_apart(output: pathlib.Path, names: Iterable[str], endings: Sequence[str]) -> None:
    """Raises ValueError if two outputs would be one file, or one the folder of others.

    Case counts for nothing, as some file systems have it. So far only names of CTs and of folders
    that end like an output are so: "a_probs.nii.gz" beside "a.nii.gz".

    Args:
        output: the folder.
        names: of all items, each once.
        endings: what may be appended to a name, see `settings.endings`.
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
        f"--input: {name!r} and {other!r} would both be written to {output / path}; predict on "
        "them into two folders, or rename one."
    )


def require_same(output: pathlib.Path, command: Mapping[str, Any], *, resume: bool) -> None:
    """Raises ValueError unless the predictions in `output` may be gone on with."""
    if not resume:
        raise ValueError(
            f"--output: {output} holds predictions; go on with them with --resume, or choose "
            "another folder."
        )
    stored = _load_command(output / COMMAND)
    differing = [name for name in command if stored.get(name) != command[name]]
    if differing:
        raise ValueError(
            f"--resume: {output} holds predictions of another command ({', '.join(differing)} "
            "differ); choose another --output."
        )


def _load_command(path: pathlib.Path) -> dict[str, Any]:
    """What `open_tables` wrote.

    Raises:
        ValueError: it isn't there, or is something else.
    """
    try:
        stored = json.loads(path.read_text())
    # The last: lists in lists in lists.
    except (OSError, ValueError, RecursionError) as error:
        stored = error
    if not isinstance(stored, dict):
        reason = stored if isinstance(stored, Exception) else f"got a {type(stored).__name__}"
        raise ValueError(
            f"--resume: {path}: want the JSON object of the command that predicted here ({reason})"
            "; choose another --output."
        )
    return stored


def read_rows(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The whole rows of a table; half a last row, which a killed process may leave, is dropped.

    Raises:
        ValueError: another header.
    """
    text = path.read_bytes().decode(errors="backslashreplace")
    try:
        rows = csv_text.parse(text[: text.rfind("\n") + 1])
    except ValueError as error:
        raise ValueError(f"{path}: want a CSV table, got something else ({error}).") from error
    if not rows or rows[0] != list(columns):
        raise ValueError(f"{path}: want the columns {', '.join(columns)}.")
    return [dict(zip(columns, row, strict=True)) for row in rows[1:] if len(row) == len(columns)]


def place(output: pathlib.Path, name: str, ending: str) -> epath.Path:
    """Where an output of `name` goes; its folder is made.

    Raises:
        ValueError: that would be outside `output`.
    """
    path = pathlib.PurePath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r}: want a name that stays inside {output}.")
    placed = output / f"{name}{ending}"
    os.makedirs(placed.parent, exist_ok=True)
    return epath.Path(placed)


def write_png(path: epath.Path, array: np.ndarray) -> None:
    """Writes [H, W] uint8 or uint16, or [H, W, 3] uint8, as a PNG."""
    content = io.BytesIO()
    # The lowest level takes a third of the time; masks are small at any.
    Image.fromarray(np.ascontiguousarray(array)).save(content, "PNG", compress_level=1)
    files.write_bytes(path, content.getvalue())


def to_uint16(probs: np.ndarray) -> np.ndarray:
    """[0, 1] to [0, 65535]."""
    return np.rint(probs * np.float32(65535)).astype(np.uint16)
