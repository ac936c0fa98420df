"""The histories of a sweep's runs, from the table of epochs in each run's folder."""

import ml_collections as mlc
import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.study import halving
from jaxlung.training import control


def load(path: epath.Path, config: mlc.ConfigDict, failure: str = "") -> halving.History:
    """Reads how far the run in `path` has come and what it scored, from `metrics.csv`.

    The score is that of the checkpoint which `config.selection` would select after each epoch:
    "best" is minus the lowest validation loss so far, "best_score" the highest validation score
    so far, and "last" the validation score of the epoch.

    Args:
        path: The run's folder, which needn't exist.
        config: The run's config.
        failure: The reason why the run failed; "" if it didn't.

    Raises:
        ValueError: `metrics.csv` is damaged.
    """
    metrics = run_files.load_metrics(path)
    if not metrics:
        return halving.History(failure=failure)
    epochs, losses = metrics["epoch"].astype(int).tolist(), metrics["val_loss"]
    values = metrics[f"val_{run_files.find_epoch_score(metrics)}"]
    scores = {
        "best": -np.minimum.accumulate(losses),
        "best_score": np.maximum.accumulate(values),
        "last": values,
    }[config.selection]
    is_complete = epochs[-1] >= config.epochs or _stopped_early(config, losses.tolist())
    return halving.History(tuple(epochs), tuple(scores.tolist()), is_complete, failure)


def _stopped_early(config: mlc.ConfigDict, losses: list[float]) -> bool:
    """Returns whether the config's rules ended training after these validation losses."""
    settings, state = control.Settings(**config.control), control.start(0.0)
    for loss in losses:
        state = control.after_epoch(settings, state, loss)
    return state.stopped


def score_key(config: mlc.ConfigDict, path: epath.Path) -> str:
    """Returns the key of the score: "loss" for `selection` "best", or as in `metrics.csv`."""
    if config.selection == "best":
        return "loss"
    return run_files.find_epoch_score(run_files.load_metrics(path))
