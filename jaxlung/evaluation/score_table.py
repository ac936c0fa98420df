"""The table of a split's scores, a row per image, and the scores of a split computed from it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlung.config import run_files
from jaxlung.evaluation import scores as scores_lib
from jaxlung.host import csv_text
from jaxlung.metrics import jackknife, roc
from jaxlung.tasks import task as task_lib

STORED = "_stored"  # ends the names of scores at the images' own size
NOT_SCORES = (
    *("image_id", "patient_id", "group", "shape", "spacing_mm"),
    *("probability", "is_positive"),
)  # columns that are no scores


@dataclasses.dataclass(frozen=True)
class Table:
    """The scores of N images as far as their table has them.

    Attributes:
        task: task of the network.
        means: name -> [N] float64, scores whose mean is a score of the split; NaN if undefined.
        confusions: "" and, for scores at the images' own size, "_stored" -> [N, L, L] float64, rows
            the reference; neither in a table of maps that an earlier version wrote.
        probs: [N] float64, the output of tasks without maps; NaN for others.
        is_positive: [N] bool, True where the reference of a task without maps is level 1.
    """

    task: task_lib.Task
    means: Mapping[str, np.ndarray]
    confusions: Mapping[str, np.ndarray]
    probs: np.ndarray
    is_positive: np.ndarray

    def score(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the scores of the split, as `scores.summarise_part` does.

        Args:
            weights: [R, N] int, how often each image counts.

        Returns:
            Score name -> [R] float64; NaN where a score is undefined.
        """
        result = {name: jackknife.weighted_mean(x, weights) for name, x in self.means.items()}
        for ending, confusions in self.confusions.items():
            pooled = np.tensordot(weights.astype(np.float64), confusions, axes=1)
            scores = self.task.pooled_scores(pooled)
            result |= {f"{name}{ending}": x for name, x in scores.items()}
        if not self.task.is_map:
            result["auc"] = np.asarray(roc.auc(self.is_positive, self.probs, weights))
        return result


def to_csv(task: task_lib.Task, scores: scores_lib.SplitScores) -> str:
    """Returns a table with a row per image: ids and scores; undefined scores are empty cells.

    For maps, `count_1_0` is the number of pixels or voxels of level 1 that are predicted as level
    0, at the network's size.
    """
    columns = scores.ids | image_columns(task, scores)
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    # Only NaN differs from itself.
    cells = [["" if cell != cell else cell for cell in row] for row in rows]
    return csv_text.to_text([tuple(columns), *cells])


def image_columns(task: task_lib.Task, scores: scores_lib.SplitScores) -> dict[str, np.ndarray]:
    """Returns name -> [N], all scores of single images."""
    columns = scores.means | scores_lib.right_at_half(task, scores)
    if not task.is_map:
        is_positive = scores_lib.is_positive(scores).astype(int)
        columns |= {"probability": scores.probs, "is_positive": is_positive}
    columns |= scores_lib.image_scores(task, scores.confusions, scores.stored)
    if task.is_map:
        columns |= _count_columns(scores.confusions, "")
        if not scores_lib.same_sizes(scores.confusions, scores.stored):
            columns |= _count_columns(scores.stored, STORED)
    return columns


def _count_columns(confusions: np.ndarray, ending: str) -> dict[str, np.ndarray]:
    cells = np.ndindex(confusions.shape[1:])
    return {_count_name(level, pred, ending): confusions[:, level, pred] for level, pred in cells}


def _count_name(level: int, pred: int, ending: str) -> str:
    return f"count_{level}_{pred}{ending}"


def parse(task: task_lib.Task, rows: Sequence[Mapping[str, str]]) -> Table:
    """Returns the table of rows that `to_csv` wrote, perhaps of several runs.

    Scores at the images' own size may be missing in some rows, which then are of images that have
    the network's size.

    Args:
        task: task of the networks.
        rows: a row or more; cells by column.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: x for name in names if (x := _column(rows, name)) is not None}
    size = range(len(task.levels))
    confusions = {}
    for ending in ("", STORED):
        cells = [_count_name(level, pred, ending) for level in size for pred in size]
        if all(cell in found for cell in cells):
            counts = np.stack([found[cell] for cell in cells], axis=-1)
            confusions[ending] = counts.reshape(len(rows), len(size), len(size))
    is_positive = found.get("is_positive", np.zeros(len(rows))) > 0
    if not task.is_map and "right" in found:
        confusions[""] = _confusions_of_images(is_positive, found["right"] > 0)
    return Table(
        task,
        {name: found[name] for name in found if _is_mean(task, name)},
        confusions,
        found.get("probability", np.full(len(rows), np.nan)),
        is_positive,
    )


def _column(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray | None:
    """Returns the numbers of a column; None if a row has neither it nor what stands for it."""
    base = name.removesuffix(STORED)
    cells = [cell for row in rows if (cell := row.get(name, row.get(base))) is not None]
    if len(cells) < len(rows):
        return None
    return np.array([run_files.to_number(cell) for cell in cells])


def _confusions_of_images(is_positive: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Returns [N, 2, 2] float64 with a single 1 each, from [N] bool."""
    confusions = np.zeros((len(is_positive), 2, 2))
    preds = is_positive == is_right
    confusions[np.arange(len(preds)), is_positive.astype(int), preds.astype(int)] = 1
    return confusions


def _is_mean(task: task_lib.Task, name: str) -> bool:
    """Returns whether the mean of a column is a score; those of some tasks' image scores aren't."""
    if name in NOT_SCORES or name.startswith("count_"):
        return False
    size = len(task.levels)
    is_image_score = name.removesuffix(STORED) in task.image_scores(np.ones((size, size)))
    return task.averages_images or not is_image_score
