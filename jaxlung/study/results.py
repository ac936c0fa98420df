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


def is_finished(path: epath.Path) -> bool:
    """Returns whether the run in `path` was trained, scored and reported."""
    return (path / job.FINISHED).exists()


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
