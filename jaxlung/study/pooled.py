"""Scores of all images of a cross-validation, each predicted by the run that was not trained on it.

They are out-of-fold scores. Every seed tests each image once. A score is computed for all images of
a seed together, and then averaged over the seeds.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlung.evaluation import intervals, score_table
from jaxlung.study import results
from jaxlung.training import system


@dataclasses.dataclass(frozen=True)
class Tested:
    """One image as one run tested it.

    Attributes:
        result: the run.
        cells: its row of `scores_<split>.csv`, by column.
    """

    result: results.Result
    cells: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Out-of-fold scores and how far they vary.

    Attributes:
        scores: score -> mean over the seeds of the score of all images; None if it is undefined.
        intervals: score -> [low, high], 95 % over patients; one patient's images are left out
            together, with all seeds.
        undefined: score -> number of images that lack it, with one seed or more, for scores that
            some lack. The mean of each seed leaves out its own.
        sd_folds: score -> standard deviation (n - 1) over the folds of one seed; of several seeds
            the root of the mean variance.
        sd_seeds: score -> standard deviation (n - 1) over the seeds of the score of all images.
        num_images: number of images.
        num_folds: largest number of folds of a seed.
        num_seeds: number of seeds.
    """

    scores: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float | None]]
    undefined: Mapping[str, int]
    sd_folds: Mapping[str, float | None]
    sd_seeds: Mapping[str, float | None]
    num_images: int
    num_folds: int
    num_seeds: int


def collect(folds: Sequence[results.Result]) -> list[Tested]:
    """Returns the images that the runs of a cross-validation tested, once per seed.

    Raises:
        ValueError: `scores_<split>.csv` of a fold can't be read, or another fold with the same seed
            tests the same image.
    """
    tested, seen = [], set()
    for fold in folds:
        for cells in results.load_subjects(fold):
            key = (fold.config.seed, cells["image_id"])
            if key in seen:
                raise ValueError(
                    f"{results.scores_path(fold)}: got {cells['image_id']}, which another fold "
                    "tests too, want each subject in one fold."
                )
            seen.add(key)
            tested.append(Tested(fold, cells))
    return tested


def score(folds: Sequence[results.Result], columns: Sequence[str]) -> Pooled:
    """Scores the images of all folds together.

    Args:
        folds: two or more runs of a cross-validation, of one seed or several.
        columns: the scores; those that the runs' tables don't give have no entry.

    Raises:
        ValueError: see `collect`.
    """
    tested = collect(folds)
    people = {each.cells["image_id"]: each.cells["patient_id"] for each in tested}
    places = {image_id: place for place, image_id in enumerate(people)}
    by_seed = group_by_seed(tested)
    parts = [
        (np.array([places[x.cells["image_id"]] for x in each]), _read(each, columns))
        for each in by_seed
    ]

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [table.score(np.take(weights, here, axis=1)) for here, table in parts]
        known = [key for key in columns if all(key in scored for scored in each)]
        return {key: np.mean([scored[key] for scored in each], axis=0) for key in known}

    positive = np.zeros(len(people), bool)
    for here, table in parts:
        positive[here] = table.is_positive
    judged = intervals.with_intervals(compute, np.array(list(people.values())), {"auc": positive})
    alone = [{key: float(x[0]) for key, x in _score_all(table).items()} for _, table in parts]
    return Pooled(
        scores=judged["scores"],
        intervals=judged["intervals"],
        undefined=_count_undefined(parts, judged["scores"], len(people)),
        sd_folds=_spread_of_folds(folds, columns),
        sd_seeds={key: deviation([part.get(key) for part in alone]) for key in columns},
        num_images=len(people),
        num_folds=max(len({x.result.run.name for x in each}) for each in by_seed),
        num_seeds=len(by_seed),
    )


def group_by_seed(tested: Sequence[Tested]) -> list[list[Tested]]:
    """Returns the images of each seed, seeds in the order in which they come."""
    by_seed: dict[int, list[Tested]] = {}
    for each in tested:
        by_seed.setdefault(each.result.config.seed, []).append(each)
    return list(by_seed.values())


def deviation(values: Sequence[float | None]) -> float | None:
    """Returns the standard deviation (n - 1) of the known values; None for fewer than two."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.stdev(known) if len(known) > 1 else None


def _read(tested: Sequence[Tested], columns: Sequence[str]) -> score_table.Table:
    task = system.make_task(tested[0].result.config)
    table = score_table.parse(task, [each.cells for each in tested])
    # The mean of each column without each patient takes a while for many images.
    means = {key: x for key, x in table.means.items() if key in columns}
    return dataclasses.replace(table, means=means)


def _score_all(table: score_table.Table) -> dict[str, np.ndarray]:
    return table.score(np.ones((1, len(table.probs)), np.int32))


def _count_undefined(
    parts: Sequence[tuple[np.ndarray, score_table.Table]],
    known: Mapping[str, float | None],
    num_images: int,
) -> dict[str, int]:
    """Counts the images that lack a score, for scores that are means over images.

    Args:
        parts: places of each seed's images, and their table.
        known: the scores.
        num_images: number of places.
    """
    counts = {}
    for key in known:
        lacks = np.zeros(num_images, bool)
        for here, table in parts:
            if key in table.means:
                lacks[here] |= np.isnan(table.means[key])
        if lacks.any():
            counts[key] = int(lacks.sum())
    return counts


def _spread_of_folds(
    folds: Sequence[results.Result], columns: Sequence[str]
) -> dict[str, float | None]:
    by_seed: dict[int, list[results.Result]] = {}
    for fold in folds:
        by_seed.setdefault(fold.config.seed, []).append(fold)
    spreads = {}
    for key in columns:
        each = [deviation([x.summary.scores.get(key) for x in runs]) for runs in by_seed.values()]
        known = [sd for sd in each if sd is not None]
        spreads[key] = math.sqrt(statistics.fmean(sd**2 for sd in known)) if known else None
    return spreads
