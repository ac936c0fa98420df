"""`metrics.csv` and TensorBoard events: a row per finished epoch."""

import csv
import io
from types import TracebackType
from typing import Self

import tensorboardX
from etils import epath

from jaxlung import distributed, files

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "loss_excess",
    "val_loss",
    "val_loss_excess",
    "learning_rate",
    "images_per_s",  # of volumes: patches
    "seconds",
)


class MetricsLog:
    """Appends a row per epoch; opened again at `step`, rows of later steps are dropped.

    Args:
        workdir: the run's folder.
        step: the step that the run goes on from.
        score: name of the score that is followed, in columns of its own: "mean_iou".
    """

    def __init__(self, workdir: epath.Path, step: int, score: str) -> None:
        self._path = workdir / "metrics.csv"
        self._columns = (*COLUMNS, score, f"val_{score}")
        rows = [row for row in load_rows(workdir) if int(row["step"]) <= step]
        files.write_text(self._path, self._to_csv(rows, header=True))
        self._events = None  # Of several processes, one writes.
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
        """Adds one epoch; `row` has the keys `COLUMNS` and the score's two."""
        if not self._events:
            return
        with self._path.open("a") as file:
            file.write(self._to_csv([row], header=False))
        for name in self._columns[2:]:
            self._events.add_scalar(name, row[name], int(row["step"]))
        self._events.flush()

    def _to_csv(self, rows: list[dict[str, float]] | list[dict[str, str]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def load_rows(workdir: epath.Path) -> list[dict[str, str]]:
    """Rows of `workdir/metrics.csv`; [] if there is none. A half-written last row is left out."""
    path = workdir / "metrics.csv"
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text()))
    return [row for row in rows if None not in row.values()]
