"""Results of the finished runs of a study."""

import dataclasses

import ml_collections as mlc
from etils import epath

from jaxlung import job
from jaxlung.config import run_files
from jaxlung.study import study as study_lib


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run with its scores on one split.

    Attributes:
        run: The run's entry in the study.
        config: The run's config.
        path: The run's folder.
        summary: Scores of the split.
        epochs: Number of epochs trained.
        loss: Mean loss on the training split in the last epoch.
        val_loss: Loss on the validation split after the last epoch.
    """

    run: study_lib.Run
    config: mlc.ConfigDict
    path: epath.Path
    summary: run_files.Summary
    epochs: int
    loss: float
    val_loss: float


def is_fold(result: Result) -> bool:
    """Returns whether the run tests one fold of a cross-validation."""
    return result.config.data.get("folds", 0) > 0


def load(run: study_lib.Run, config: mlc.ConfigDict, path: epath.Path, split: str) -> Result:
    """Reads a finished run and its scores on `split`.

    Raises:
        ValueError: a file of the run is missing or damaged; names it.
    """
    summaries = {summary.split: summary for summary in run_files.load_summaries(path)}
    metrics = run_files.load_metrics(path)
    summary = summaries.get(split)
    if summary is None or not metrics:
        missing = "metrics.csv" if summary else f"summary_{split}.json"
        raise ValueError(
            f"{path / missing}: want the results of a finished run, found none. Delete "
            f"{path / job.FINISHED} and run the same command to make them again."
        )
    return Result(
        run=run,
        config=config,
        path=path,
        summary=summary,
        epochs=int(metrics["epoch"][-1]),
        loss=float(metrics["loss"][-1]),
        val_loss=float(metrics["val_loss"][-1]),
    )


def load_subjects(result: Result) -> list[dict[str, str]]:
    """Reads a row of scores per subject of the split that the study scores.

    Raises:
        ValueError: there is no such table.
    """
    path = scores_path(result)
    rows = run_files.load_rows(path)
    if not rows or not {"image_id", "patient_id"} <= set(rows[0]):
        raise ValueError(f"{path}: want columns image_id and patient_id, and a row or more.")
    return rows


def scores_path(result: Result) -> epath.Path:
    """Returns the path of the table of scores of single images or volumes."""
    return result.path / f"scores_{result.summary.split}.csv"
