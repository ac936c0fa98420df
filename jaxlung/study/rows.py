"""Rows of a study's table: its runs, means over several runs, and published scores."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.evaluation import intervals, scores
from jaxlung.metrics import jackknife
from jaxlung.study import results
from jaxlung.study import study as study_lib

LOSSES = ("loss_train", "loss_validation")  # in the last epoch


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, the CSV and the chart.

    Attributes:
        source: "run"; "mean" over the runs of a group; "all" for the subjects of all folds of a
            cross-validation together; "paper".
        label: Label of the run, the group, or the paper's row.
        heading: The label with the kind of row, for readers.
        scores: Score -> number, including `LOSSES`; None or no entry if unknown.
        intervals: Score -> [low, high], 95 %.
        sds: Score -> standard deviation over the group's runs.
        undefined: Score -> number of images without it, which are left out; of runs in a mean row.
        total: Number of images; of runs in a mean row.
        facts: Further cells of the CSV.
        in_chart: True if the chart shows the row.
    """

    source: str
    label: str
    heading: str
    scores: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)
    sds: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    undefined: Mapping[str, int] = dataclasses.field(default_factory=dict)
    total: int = 0
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_chart: bool = True

    def bar(self, key: str) -> tuple[float | None, float | None]:
        """Returns the ends of a score's bar: its interval, or mean +- one standard deviation."""
        value, sd = self.scores.get(key), self.sds.get(key)
        if value is not None and sd is not None:
            return value - sd, value + sd
        low, high = self.intervals.get(key, (None, None))
        return low, high


def make(study: study_lib.Study, shown: Sequence[results.Result]) -> list[Row]:
    """Returns a row per run, rows of a group after its last run, and then the paper's rows.

    Raises:
        ValueError: the scores of a fold's subjects can't be read, or a subject is tested twice.
    """
    rows = []
    for result in shown:
        rows.append(of_run(result))
        group = result.run.group
        members = [other for other in shown if other.run.group == group]
        if group and len(members) > 1 and result is members[-1]:
            rows += of_group(group, members, study.columns)
    return rows + [
        Row("paper", paper.label, f"paper: {paper.label}", paper.scores, in_chart=paper.in_chart)
        for paper in study.paper
    ]


def of_run(result: results.Result) -> Row:
    """Returns the row of one run."""
    losses = dict(zip(LOSSES, (result.loss, result.val_loss), strict=True))
    return Row(
        source="run",
        label=result.run.label,
        heading=result.run.label,
        scores=result.summary.scores | losses,
        intervals=result.summary.intervals,
        undefined=result.summary.undefined,
        total=result.summary.num_images,
        facts={
            "run": result.run.name,
            "config": result.run.config,
            "seed": result.config.seed,
            "fold": result.config.data.fold if is_fold(result) else "",
            "step": result.summary.step,
            "epochs": result.epochs,
            "num_images": result.summary.num_images,
        },
    )


def is_fold(result: results.Result) -> bool:
    """Returns whether the run tests one fold of a cross-validation."""
    return result.config.data.get("folds", 0) > 0


def of_group(label: str, members: Sequence[results.Result], columns: Sequence[str]) -> list[Row]:
    """Returns the mean row of two or more runs, and the row of all subjects if they are folds."""
    parts = [of_run(member).scores for member in members]
    spreads = {key: mean_and_sd([part.get(key) for part in parts]) for key in (*columns, *LOSSES)}
    mean = Row(
        source="mean",
        label=label,
        heading=f"{label}: mean of {len(members)} runs",
        scores={key: value for key, (value, _) in spreads.items()},
        sds={key: sd for key, (_, sd) in spreads.items()},
        undefined=_count_lacking(parts, spreads),
        total=len(members),
    )
    return [mean, pool(label, members, columns)] if all(map(is_fold, members)) else [mean]


def _count_lacking(
    parts: Sequence[Mapping[str, float | None]], keys: Iterable[str]
) -> dict[str, int]:
    """Returns how many runs lack a score that others have."""
    counts = {key: sum(part.get(key) is None for part in parts) for key in keys}
    return {key: count for key, count in counts.items() if 0 < count < len(parts)}


def mean_and_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Returns mean and standard deviation (n - 1) of the known values.

    The mean is None without known values, the deviation with fewer than two.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    mean = statistics.fmean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def pool(label: str, folds: Sequence[results.Result], columns: Sequence[str]) -> Row:
    """Returns mean scores over the tested subjects of all folds, with intervals over patients.

    A subject counts once per seed; subjects without a score are left out of its mean.

    Raises:
        ValueError: `scores_<split>.csv` of a fold can't be read, or another fold with the same seed
            tests the same subject.
    """
    tested, seen = [], set()
    for fold in folds:
        for subject in load_subjects(fold):
            key = (fold.config.seed, subject["image_id"])
            if key in seen:
                raise ValueError(
                    f"{scores_path(fold)}: got {subject['image_id']}, which another fold tests "
                    "too, want each subject in one fold."
                )
            seen.add(key)
            tested.append(subject)
    known = [key for key in columns if all(key in subject for subject in tested)]
    values = {key: np.array([run_files.to_number(row[key]) for row in tested]) for key in known}
    num_images = len({image_id for _, image_id in seen})
    parts = intervals.with_intervals(
        lambda weights: {key: jackknife.weighted_mean(x, weights) for key, x in values.items()},
        np.array([subject["patient_id"] for subject in tested]),
    )
    return Row(
        source="all",
        label=label,
        heading=f"{label}: {num_images} volumes together",
        scores=parts["scores"],
        intervals=parts["intervals"],
        undefined=scores.count_undefined(values),
        total=len(tested),
        facts={"num_images": num_images},
    )


def load_subjects(result: results.Result) -> list[dict[str, str]]:
    """Reads a row of scores per subject of the split that the study scores.

    Raises:
        ValueError: there is no such table.
    """
    path = scores_path(result)
    rows = run_files.load_rows(path)
    if not rows or not {"image_id", "patient_id"} <= set(rows[0]):
        raise ValueError(f"{path}: want columns image_id and patient_id, and a row or more.")
    return rows


def scores_path(result: results.Result) -> epath.Path:
    """Returns the path of the table of scores of single images or volumes."""
    return result.path / f"scores_{result.summary.split}.csv"
