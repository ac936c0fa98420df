"""Classes for a study file: its runs, and the table of their scores."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlung.config import run_files
from jaxlung.study import sweep as sweep_lib


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: Name of its folder.
        label: Label of its row.
        config: The config, as for `--config`: "covidqu_residual:loss=bce".
        overrides: Field -> value, as "task.alpha" -> 0.3. "{runs}" in a text stands for the
            absolute path of the folder of all runs.
        in_table: False for a run that other runs need; its scores are listed below the table.
        group: Label of the row for all runs of the same group; "" for no group.
    """

    name: str
    label: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_table: bool = True
    group: str = ""


def repeat(runs: Sequence[Run], seeds: int) -> tuple[Run, ...]:
    """Returns every run with seeds 0 to `seeds` - 1, as a group unless the run has one.

    Seed 0 keeps the run's name, so that a study can be extended to more seeds in the same folder.

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


def vary(run: Run, sweep: sweep_lib.Sweep) -> tuple[Run, ...]:
    """Returns the run once with each set of values that a sweep tries, in its name and label.

    Raises:
        ValueError: the sweep asks for more runs than there are different values.
    """
    return tuple(
        dataclasses.replace(
            run,
            name=f"{run.name}-{sweep_lib.to_name(values)}",
            label=f"{run.label}, {sweep_lib.spell(values)}",
            overrides={**run.overrides, **values},
        )
        for values in sweep_lib.draw(sweep)
    )


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of published scores.

    Attributes:
        label: Label of the row.
        scores: Column -> score.
        in_chart: True if they are on the same scale as our scores, so that the chart shows them.
    """

    label: str
    scores: Mapping[str, float]
    in_chart: bool = True


@dataclasses.dataclass(frozen=True)
class Study:
    """Several runs and the table of their scores.

    Attributes:
        title: Title of the table, one line.
        runs: The runs in their order; each may use the results of earlier ones.
        columns: Keys of the scores in `summary_<split>.json`.
        paper: Rows of published scores.
        notes: Sentences below the table.
        images: Test images to show with the output of every run, counted from 1; () for none.
        split: The split to score: "test", or the one that the paper reports.
        reference: Group of runs, or label of a run without a group, with which all others are
            compared; "" to compare all pairs of a few rows, or many rows with the first.
        sweep: The sweep that the runs are from, all by `vary`; None for none. Its runs are compared
            by their validation scores, and only the best one is scored on `split`.
    """

    title: str
    runs: tuple[Run, ...]
    columns: tuple[str, ...]
    paper: tuple[PaperRow, ...] = ()
    notes: tuple[str, ...] = ()
    images: tuple[int, ...] = ()
    split: str = "test"
    reference: str = ""
    sweep: sweep_lib.Sweep | None = None

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if not any(run.in_table for run in self.runs):
            raise ValueError("study: got no run with in_table=True, want one or more.")
        if len(set(names)) < len(names):
            raise ValueError(f"study: got runs {', '.join(names)}, want different names.")
        for name in names:
            if not re.fullmatch(r"\w[\w.=-]*", name):
                raise ValueError(
                    f"study: got run {name!r}, want a name of letters, digits, and _ . = -"
                )
        if not self.columns:
            raise ValueError("study: got no columns, want one score or more.")
        if self.split not in run_files.SPLITS:
            choices = ", ".join(run_files.SPLITS)
            raise ValueError(f"study: got split {self.split!r}, want one of {choices}.")
        if any(number < 1 for number in self.images):
            raise ValueError(f"study: got images {self.images}, want numbers from 1.")
        labels = dict.fromkeys(run.group or run.label for run in self.runs if run.in_table)
        if self.reference and self.reference not in labels:
            choices = ", ".join(labels)
            raise ValueError(f"study: got reference {self.reference!r}, want one of {choices}.")
        fields = self.sweep.fields.keys() if self.sweep else set()
        for run in self.runs:
            if not fields <= run.overrides.keys() or (fields and not run.in_table):
                raise ValueError(
                    f"study: got run {run.name!r} in a sweep, want only runs from study.vary."
                )
