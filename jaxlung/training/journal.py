"""Logs a training run while it runs: losses, speed, time left."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from jaxlung.host import progress, progress_file
from jaxlung.training import metrics_log

SECONDS_BETWEEN_LINES = 20.0  # Within an epoch; the end of every epoch has its own line.
SECONDS_BETWEEN_NEWS = 1.0  # of `progress.json`


class Means(NamedTuple):
    """Means over an epoch or a split: the loss, the loss above its floor, and a score."""

    loss: float
    excess: float
    score: float


class Journal:
    """The metrics of all steps, which are fetched from the device only at log points.

    Args:
        log: table that gets a row per epoch.
        num_epochs: number of epochs of the whole run.
        unit: name of an example in the plural, "images" or "patches".
        batch_size: examples per step.
        first_step: number of steps that were finished before this process started.
        total_steps: step at which this process stops: the run's last one, or that of a stop
            between epochs.
        epoch_steps: value of `epoch_steps` when the run was saved within an epoch; otherwise [].
        score: name of the validation score, and the function that computes it from a confusion
            matrix.

    Attributes:
        epoch_steps: loss, loss above its floor, and confusion matrix of every step of the
            unfinished epoch; plain numbers, for a checkpoint.
    """

    def __init__(
        self,
        log: metrics_log.MetricsLog,
        *,
        num_epochs: int,
        unit: str,
        batch_size: int,
        first_step: int,
        total_steps: int,
        epoch_steps: list[list[Any]],
        score: tuple[str, Callable[[np.ndarray], float]],
    ) -> None:
        self._log = log
        self._num_epochs = num_epochs
        self._unit = unit
        self._batch_size = batch_size
        self._total_steps = total_steps
        self._step = first_step
        self._pending: list[dict[str, jax.Array]] = []
        self.epoch_steps = epoch_steps
        self._score_name, self._score = score
        self._fetched_step = first_step
        self._schedule = 1.0  # Share of the learning rate, of the newest step.
        # The first dispatch takes longer than later ones: speed is measured from its end.
        self._start = self._epoch_start = self._last_line = self._last_news = 0.0
        self._start_step = self._epoch_start_step = -1

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics [K, ...] of one dispatch. Waits only for the first one."""
        self._step += len(metrics["loss"])
        self._pending.append(metrics)
        if self._start_step < 0:
            jax.block_until_ready(metrics)
            self._start = self._epoch_start = self._last_line = time.monotonic()
            self._start_step = self._epoch_start_step = self._step

    def fetch(self, *, but_last: bool = False) -> None:
        """Waits for the steps so far and checks their metrics.

        Args:
            but_last: leave out the newest dispatch, so that the device stays busy.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; the message names the first
                such step.
        """
        fetched = jax.device_get(self._pending[:-1] if but_last else self._pending)
        self._pending = self._pending[len(fetched) :]
        for metrics in fetched:
            for row in range(len(metrics["loss"])):
                self._note({name: values[row] for name, values in metrics.items()})
        if self.epoch_steps and time.monotonic() - self._last_news > SECONDS_BETWEEN_NEWS:
            self._last_news = time.monotonic()
            self._tell(loss=float(np.mean([loss for loss, *_ in self.epoch_steps])))
        if self.epoch_steps and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logging.info("step %d of %d: %s", self._step, self._total_steps, self._describe())

    def end_epoch(self, epoch: int, train_seconds: float, val: Means, learning_rate: float) -> None:
        """Writes the epoch's row and log line. Call it after `fetch`.

        Args:
            epoch: number of finished epochs.
            train_seconds: seconds of training, from `train_seconds` before the validation.
            val: means over the validation split.
            learning_rate: learning rate of this epoch's updates, without its schedule.

        Raises:
            FloatingPointError: the validation loss or score is not finite.
        """
        require_finite(self._step, val_loss=val.loss, val_score=val.score)
        train = self._means()
        steps = self._step - self._epoch_start_step
        row = {
            "step": self._step,
            "epoch": min(epoch, self._num_epochs),
            "loss": train.loss,
            "loss_excess": train.excess,
            "val_loss": val.loss,
            "val_loss_excess": val.excess,
            "learning_rate": learning_rate * self._schedule,
            "images_per_s": steps * self._batch_size / train_seconds if steps else math.nan,
            "seconds": train_seconds,
            self._score_name: train.score,
            f"val_{self._score_name}": val.score,
        }
        self._log.write(row)
        self._tell(epoch=row["epoch"], loss=train.loss, score=val.score)
        logging.info(
            "epoch %d of %d: %s, validation loss %.4f, %s %.4f",
            row["epoch"],
            self._num_epochs,
            self._describe(),
            val.loss,
            self._score_name.replace("_", " "),
            val.score,
        )
        self.epoch_steps = []
        self._epoch_start = self._last_line = time.monotonic()
        self._epoch_start_step = self._step

    def _note(self, row: dict[str, np.ndarray]) -> None:
        self._fetched_step += 1
        self._schedule = float(row["schedule"])
        require_finite(
            self._fetched_step, loss=float(row["loss"]), grad_norm=float(row["grad_norm"])
        )
        self.epoch_steps.append(
            [float(row["loss"]), float(row["loss_excess"]), row["confusion"].tolist()]
        )

    def train_seconds(self) -> float:
        """Returns seconds of training in this epoch and process, without the compilation."""
        return max(time.monotonic() - self._epoch_start, 1e-9)

    def _means(self) -> Means:
        losses, excesses, confusions = zip(*self.epoch_steps, strict=True)
        score = self._score(np.asarray(confusions, np.int64).sum(axis=0))
        return Means(float(np.mean(losses)), float(np.mean(excesses)), score)

    def _tell(self, **changes: Any) -> None:
        """Tells `progress_file` how far the run is, from what was fetched anyway."""
        speed, left = self._pace() or (None, None)
        progress_file.tell(
            step=self._fetched_step, images_per_s=speed, seconds_left=left, **changes
        )

    def _pace(self) -> tuple[float, float] | None:
        """Returns examples per second and the seconds left; None before the second step."""
        steps, seconds = self._step - self._start_step, time.monotonic() - self._start
        if not steps:
            return None
        left = seconds / steps * (self._total_steps - self._step)
        return steps * self._batch_size / seconds, left

    def _describe(self) -> str:
        train = self._means()
        text = f"loss {train.loss:.4f}"
        if abs(train.excess - train.loss) > 1e-9:
            text += f" ({train.excess:.4f} above its floor)"
        pace = self._pace()
        if pace is None:
            return text
        return f"{text}, {pace[0]:.1f} {self._unit}/s, {progress.duration(pace[1])} left"


def require_finite(step: int, **values: float) -> None:
    """Raises FloatingPointError, which names the step and gives advice, if a value isn't finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"step {step}: {name} is {value}; earlier checkpoints are kept. Try a smaller "
                "--config.optimizer.learning_rate (with bfloat16 also --config.model.dtype="
                "float32) in a new --workdir."
            )
