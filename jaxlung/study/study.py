"""What a study file says: which runs there are, and the table they make."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlung.config import run_files


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: of its folder.
        label: of its row.
        config: as for `--config`: "covidqu_residual:loss=bce".
        overrides: field -> value, "task.alpha" -> 0.3; "{runs}" in a text is the folder of all
            runs, absolute.
        in_table: False for a run that serves others: its scores are told below the table.
        group: label of the row that runs of the same group have together; "" for none.
    """

    name: str
    label: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_table: bool = True
    group: str = ""


def repeat(runs: Sequence[Run], seeds: int) -> tuple[Run, ...]:
    """Every run with seeds 0 to `seeds` - 1; those of one run are a group, if it has none yet.

    Seed 0 keeps the run's name, so that a study goes on to more seeds in the folder it has.

    Raises:
        ValueError: fewer than one seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds: got {seeds}, want 1 or more.")
    if seeds == 1:
        return tuple(runs)
    return tuple(
        dataclasses.replace(
            run,
            name=f"{run.name}_seed{seed}" if seed else run.name,
            label=f"{run.label}, seed {seed}",
            overrides={**run.overrides, "seed": seed},
            group=run.group or run.label,
        )
        for run in runs
        for seed in range(seeds)
    )


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A paper's numbers, in a row of their own.

    Attributes:
        label: which of the paper's numbers they are.
        scores: column -> number.
        in_chart: whether they may stand on the axes of our scores.
    """

    label: str
    scores: Mapping[str, float]
    in_chart: bool = True


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs, and the table they make.

    Attributes:
        title: of the table, one line.
        runs: in the order they run in; each may use what earlier ones left.
        columns: keys of the scores in `summary_<split>.json`.
        paper: what the paper has to set beside them.
        notes: sentences below the table.
        images: test images to show with every run's output, counted from 1; () for none.
        split: whose scores are in the table, "test" or the one that the paper has numbers of.
    """

    title: str
    runs: tuple[Run, ...]
    columns: tuple[str, ...]
    paper: tuple[PaperRow, ...] = ()
    notes: tuple[str, ...] = ()
    images: tuple[int, ...] = ()
    split: str = "test"

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if not any(run.in_table for run in self.runs):
            raise ValueError("study: got no run for its table, want one or more.")
        if len(set(names)) < len(names):
            raise ValueError(f"study: got runs {', '.join(names)}, want every name once.")
        for name in names:
            if not re.fullmatch(r"\w[\w.=-]*", name):
                raise ValueError(f"study: got run {name!r}, want a name that a folder can have.")
        if not self.columns:
            raise ValueError("study: got no columns, want one score or more.")
        if self.split not in run_files.SPLITS:
            choices = ", ".join(run_files.SPLITS)
            raise ValueError(f"study: got split {self.split!r}, want one of {choices}.")
        if any(number < 1 for number in self.images):
            raise ValueError(f"study: got images {self.images}, want numbers from 1.")
