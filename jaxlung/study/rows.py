"""Rows of a study's table: its runs, means over several runs, and published scores."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxlung.report import glossary
from jaxlung.study import pooled, results
from jaxlung.study import study as study_lib

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
LOSSES = ("loss_train", "loss_validation")  # in the last epoch


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, the CSV and the chart.

    Attributes:
        source: "run"; "mean" over the runs of a group; "all" for the images of all folds of a
            cross-validation, each predicted by the run that was not trained on it; "paper".
        label: Label of the run, the group, or the paper's row.
        heading: The label with the kind of row, for readers.
        scores: Score -> number, including `LOSSES`; None or no entry if unknown.
        intervals: Score -> [low, high], 95 %.
        sds: Score -> standard deviation shown beside the mean, over what the heading says.
        sds_over: "folds", "seeds" -> score -> standard deviation over these, for the CSV.
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
    sds_over: Mapping[str, Mapping[str, float | None]] = dataclasses.field(default_factory=dict)
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
            "fold": result.config.data.fold if results.is_fold(result) else "",
            "step": result.summary.step,
            "epochs": result.epochs,
            "num_images": result.summary.num_images,
        },
    )


def of_group(label: str, members: Sequence[results.Result], columns: Sequence[str]) -> list[Row]:
    """Returns the rows of two or more runs: means with deviations, and folds taken together."""
    if all(map(results.is_fold, members)):
        return of_folds(label, members, columns)
    parts = [of_run(member).scores for member in members]
    spreads = {key: mean_and_sd([part.get(key) for part in parts]) for key in (*columns, *LOSSES)}
    is_by_seed = len({member.config.seed for member in members}) == len(members)
    sds = {key: sd for key, (_, sd) in spreads.items()}
    return [
        Row(
            source="mean",
            label=label,
            heading=f"{label}: mean {PLUS_MINUS} SD over {len(members)} "
            f"{'seeds' if is_by_seed else 'runs'}",
            scores={key: value for key, (value, _) in spreads.items()},
            sds=sds,
            sds_over={"seeds": sds} if is_by_seed else {},
            undefined=_count_lacking(parts, spreads),
            total=len(members),
        )
    ]


def of_folds(label: str, folds: Sequence[results.Result], columns: Sequence[str]) -> list[Row]:
    """Returns the mean over folds, the mean over seeds if there are several, and all images.

    Raises:
        ValueError: the scores of a fold's images can't be read, or an image is tested twice.
    """
    every = pooled.score(folds, columns)
    rows = []
    if every.num_folds > 1:
        rows.append(_mean_of_folds(label, folds, every, columns))
    if every.num_seeds > 1:
        rows.append(_mean_of_seeds(label, every))
    images = glossary.count(every.num_images, "image", folds[0].summary.task)
    return [
        *rows,
        Row(
            source="all",
            label=label,
            heading=f"{label}: {images} out of fold",
            scores=every.scores,
            intervals=every.intervals,
            sds_over={"folds": every.sd_folds, "seeds": every.sd_seeds},
            undefined=every.undefined,
            total=every.num_images,
            facts={"num_images": every.num_images},
        ),
    ]


def _mean_of_folds(
    label: str, folds: Sequence[results.Result], every: pooled.Pooled, columns: Sequence[str]
) -> Row:
    parts = [of_run(fold).scores for fold in folds]
    means = {key: mean_and_sd([part.get(key) for part in parts])[0] for key in (*columns, *LOSSES)}
    return Row(
        source="mean",
        label=label,
        heading=f"{label}: mean {PLUS_MINUS} SD over {every.num_folds} folds",
        scores=means,
        sds=every.sd_folds,
        sds_over={"folds": every.sd_folds},
        undefined=_count_lacking(parts, means),
        total=len(folds),
    )


def _mean_of_seeds(label: str, every: pooled.Pooled) -> Row:
    return Row(
        source="mean",
        label=label,
        heading=f"{label}: mean {PLUS_MINUS} SD over {every.num_seeds} seeds",
        scores=every.scores,
        sds=every.sd_seeds,
        sds_over={"seeds": every.sd_seeds},
        total=every.num_seeds,
    )


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
    return statistics.fmean(known) if known else None, pooled.deviation(known)
