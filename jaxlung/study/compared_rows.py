"""Scores of single images for the rows of a study, so that rows can be compared image by image.

A row is a run, or the runs of a group, whose scores are averaged for each image. So seeds count as
one network. Folds, each of which tests other images, count as one network for all images.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlung.config import run_files
from jaxlung.evaluation import score_table
from jaxlung.metrics import jackknife
from jaxlung.study import results
from jaxlung.training import system

Table = Sequence[Mapping[str, str]]  # rows of `scores_<split>.csv`, by column


@dataclasses.dataclass(frozen=True)
class ComparedRow:
    """One or several runs with their scores for each of N images.

    Attributes:
        label: The group, or the label of a run without a group.
        num_runs: Number of runs.
        image_ids: [N] str, sorted, each once; N = 0 if a run has no table of its images.
        people: [N] str, the patient on each image.
        is_positive: [N] bool, True for the positive images of a diagnosis.
        scores: Score -> [N] float64, the mean over the runs that tested the image; NaN where it is
            undefined. Only scores whose mean over the images is the score of each run.
        pooled: Score -> [1 + G] float64, for scores that are no such means: of all images, and
            without each of the G groups of people of `jackknife.group_people`. Folds are pooled;
            of several seeds it is the mean.
    """

    label: str
    num_runs: int
    image_ids: np.ndarray
    people: np.ndarray
    is_positive: np.ndarray
    scores: dict[str, np.ndarray]
    pooled: dict[str, np.ndarray]

    def has(self, key: str) -> bool:
        """Returns whether the score can be compared."""
        return key in self.scores or key in self.pooled

    def tests_same_images(self, other: "ComparedRow") -> bool:
        """Returns whether both rows test the same images of the same patients."""
        return np.array_equal(self.image_ids, other.image_ids) and np.array_equal(
            self.people, other.people
        )


def gather(shown: Sequence[results.Result], columns: Sequence[str]) -> list[ComparedRow]:
    """Returns a row for each group of runs and for each run without a group, in their order.

    Args:
        shown: Results of the runs in the table.
        columns: Keys of the scores.

    Raises:
        ValueError: `scores_<split>.csv` of a run is damaged; names it.
    """
    members: dict[tuple[str, str], list[results.Result]] = {}
    for result in shown:
        group = result.run.group
        members.setdefault((group, "" if group else result.run.name), []).append(result)
    return [_gather_row(part, columns) for part in members.values()]


def _gather_row(members: Sequence[results.Result], columns: Sequence[str]) -> ComparedRow:
    tables = [_load(member) for member in members]
    if not all(tables):
        tables = [[] for _ in tables]
    tested = [row for table in tables for row in table]
    ids, people = (np.array([row[x] for row in tested], str) for x in ("image_id", "patient_id"))
    image_ids, first, place = np.unique(ids, return_index=True, return_inverse=True)
    scores = {}
    for key in columns:
        parts = [_score_images(key, *each) for each in zip(members, tables, strict=True)]
        if all(part.size for part in parts):
            scores[key] = _average(np.concatenate(parts), place)
    others = [key for key in columns if key not in scores] if tested else []
    positive = np.array(
        [run_files.to_number(row.get("is_positive", "")) == 1 for row in tested], bool
    )
    return ComparedRow(
        label=members[0].run.group or members[0].run.label,
        num_runs=len(members),
        image_ids=image_ids,
        people=people[first],
        is_positive=positive[first],
        scores=scores,
        pooled=_pool(members, tables, image_ids, people[first], others) if others else {},
    )


def _load(result: results.Result) -> Table:
    """Reads the scores of a run's images; [] if there is no such table."""
    table = run_files.load_rows(results.scores_path(result))
    if not table or not {"image_id", "patient_id"} <= set(table[0]):
        return []
    return table


def _score_images(key: str, result: results.Result, table: Table) -> np.ndarray:
    """Returns the score of each image; [0] if their mean isn't the score of the run.

    It isn't for pooled scores, even where the table has a column of that name.
    """
    values = _find_values(key, table)
    if not values.size:
        return values
    mean = jackknife.weighted_mean(values, np.ones((1, len(values)), np.int32))
    return values if _is_score(mean, key, result) else np.empty(0)


def _find_values(key: str, table: Table) -> np.ndarray:
    """Returns a column of the table, or a score of a diagnosis that follows from its columns."""
    if table and key in table[0]:
        return _column(table, key)
    if not _is_diagnosis(table):
        return np.empty(0)
    right, positive = _column(table, "right"), _column(table, "is_positive") == 1
    if key == "accuracy_at_half":
        return ((_column(table, "probability") > 0.5) == positive).astype(np.float64)
    which = {"accuracy": positive | ~positive, "sensitivity": positive, "specificity": ~positive}
    return np.where(which[key], right, math.nan) if key in which else np.empty(0)


def _column(table: Table, name: str) -> np.ndarray:
    return np.array([run_files.to_number(row[name]) for row in table])


def _is_diagnosis(table: Table) -> bool:
    """Returns whether each image has a probability and a label."""
    return bool(table) and {"right", "is_positive", "probability"} <= set(table[0])


def _average(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns the mean of the known values at each place; NaN where there is none."""
    known = ~np.isnan(values)
    totals, counts = (
        np.bincount(place[known], weights, place.max() + 1) for weights in (values[known], None)
    )
    return np.where(counts > 0, totals / np.maximum(counts, 1), math.nan)


def _pool(
    members: Sequence[results.Result],
    tables: Sequence[Table],
    image_ids: np.ndarray,
    people: np.ndarray,
    columns: Sequence[str],
) -> dict[str, np.ndarray]:
    """Returns `ComparedRow.pooled`, of scores that each run's table gives as the run has them."""
    known = set(columns)
    parts: dict[str, list[Mapping[str, str]]] = {}  # A cross-validation of one seed, or a run.
    for member, table in zip(members, tables, strict=True):
        name = f"seed {member.config.seed}" if results.is_fold(member) else member.run.name
        parts.setdefault(name, []).extend(table)
        got = _parse(member, table).score(np.ones((1, len(table)), np.int32))
        known &= {key for key in known & set(got) if _is_score(got[key], key, member)}
    each = jackknife.weigh_each(jackknife.group_people(people))
    weights = np.concatenate([np.ones((1, len(people)), np.int32), 1 - each])
    scored = [
        _parse(members[0], part).score(
            weights[:, np.searchsorted(image_ids, [row["image_id"] for row in part])]
        )
        for part in parts.values()
    ]
    known = known.intersection(*scored)
    return {key: np.mean([part[key] for part in scored], axis=0) for key in columns if key in known}


def _parse(result: results.Result, table: Table) -> score_table.Table:
    return score_table.parse(system.make_task(result.config), table)


def _is_score(value: np.ndarray, key: str, result: results.Result) -> bool:
    """Returns whether [1] is the run's score; both may be undefined, as in a fold of one class."""
    score = result.summary.scores.get(key)
    if score is None:
        return key in result.summary.scores and math.isnan(value[0])
    return math.isclose(value[0], score, rel_tol=1e-6, abs_tol=1e-9)
