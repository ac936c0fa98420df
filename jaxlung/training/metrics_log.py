"""Writes a row per finished epoch to `metrics.csv` and to TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import tensorboardX
from absl import logging
from etils import epath

from jaxlung.host import files
from jaxlung.parallel import distributed

FILE = "metrics.csv"
COLUMNS = (
    "step",
    "epoch",
    "loss",
    "loss_excess",
    "val_loss",
    "val_loss_excess",
    "learning_rate",
    "images_per_s",  # Patches, if the run trains on volumes.
    "seconds",
)
Row = dict[str, Any]


class MetricsLog:
    """The table of a run's epochs, to which each epoch adds a row.

    Args:
        workdir: folder of the run.
        step: step from which the run resumes.
        score: name of the validation score, which has its own columns: "mean_iou".
        rows: rows of earlier epochs, from `restore`.

    Attributes:
        rows: rows of all epochs so far; JSON values, for a checkpoint.
    """

    def __init__(self, workdir: epath.Path, step: int, score: str, rows: Sequence[Row]) -> None:
        self._path = workdir / FILE
        self._columns = columns(score)
        self.rows = list(rows)
        self._events = None  # Only one process writes.
        if distributed.is_main():
            folder = str(workdir / "tensorboard")
            self._events = tensorboardX.SummaryWriter(folder, purge_step=step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._events:
            self._events.close()

    def write(self, row: dict[str, float]) -> None:
        """Adds one epoch; the keys of `row` are those that `columns` returns."""
        self.rows.append(row)
        files.write_text(self._path, to_csv(self.rows, self._columns))
        if not self._events:
            return
        for name in self._columns[2:]:
            self._events.add_scalar(name, row[name], int(row["step"]))
        self._events.flush()


def columns(score: str) -> tuple[str, ...]:
    """Returns the columns of a run whose validation score is `score`."""
    return (*COLUMNS, score, f"val_{score}")


def restore(
    workdir: epath.Path, step: int, score: str, kept: Sequence[Row] | None, num_epochs: int
) -> list[Row]:
    """Returns the rows of the epochs up to `step`, and rewrites `metrics.csv` to hold only those.

    Args:
        workdir: folder of the run.
        step: step from which the run resumes.
        score: name of the validation score.
        kept: rows stored in the checkpoint of `step`; None if an earlier version saved it, which
            stored them only in the file.
        num_epochs: number of epochs that were finished at `step`.

    Raises:
        ValueError: only the file has the rows, and it can't be read.
    """
    path, wanted = workdir / FILE, columns(score)
    if kept is None:
        rows = [row for row in load_rows(path, wanted) if row["step"] <= step]
        _warn_of_missing(path, step, num_epochs, len(rows))
    else:
        rows = list(kept)
    if not distributed.is_main():
        return rows
    text = to_csv(rows, wanted)
    before = path.read_bytes() if path.exists() else b""
    if before != text.encode():
        if kept and not before.startswith(text.encode()):
            logging.warning("%s: its %d epochs are restored from the checkpoint", path, len(rows))
        files.write_text(path, text)
    return rows


def _warn_of_missing(path: epath.Path, step: int, num_epochs: int, num_rows: int) -> None:
    if num_rows < num_epochs:
        logging.warning(
            "%s: %d of %d epochs are missing, and the checkpoint of step %d, which an earlier "
            "version saved, doesn't have them",
            path,
            num_epochs - num_rows,
            num_epochs,
            step,
        )


def to_csv(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> str:
    """Returns the table as text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, wanted, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def load_rows(path: epath.Path, wanted: Sequence[str]) -> list[Row]:
    """Reads the rows of `metrics.csv`, leaving out a half-written last row.

    Args:
        path: the file; without it there are no rows.
        wanted: names of the columns.

    Raises:
        ValueError: the file is not a table with these columns.
    """
    if not path.exists():
        return []
    try:
        reader = csv.DictReader(io.StringIO(path.read_text()))
        rows = [row for row in reader if None not in row.values()]
        if reader.fieldnames and set(reader.fieldnames) != set(wanted):
            raise ValueError(f"its columns are {', '.join(reader.fieldnames)}")
        return [row | {"step": int(row["step"])} for row in rows]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{path}: want a table of {', '.join(wanted)}, got something else ({error}); remove it "
            "to resume without its epochs."
        ) from error
