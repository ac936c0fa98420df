"""What a training run says while it runs: losses, speed, time left."""

import math
import time
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from jaxlung import metrics_log, progress

SECONDS_BETWEEN_LINES = 20.0  # Inside an epoch; every epoch ends with a line of its own.


class Losses(NamedTuple):
    """A mean loss, and how far it is above the least value that the targets allow."""

    loss: float
    excess: float


class Journal:
    """Collects what steps return and fetches it from the device only at log points.

    Args:
        log: takes a row per epoch.
        num_epochs: of the whole run.
        batch_size: images per step.
        first_step: steps that were finished before this process.
        total_steps: steps of the whole run.
        epoch_losses: of the steps of an unfinished epoch that a resumed run begins in.
    """

    def __init__(
        self,
        log: metrics_log.MetricsLog,
        *,
        num_epochs: int,
        batch_size: int,
        first_step: int,
        total_steps: int,
        epoch_losses: list[list[float]],
    ) -> None:
        self._log = log
        self._num_epochs = num_epochs
        self._batch_size = batch_size
        self._total_steps = total_steps
        self._step = first_step
        self._pending: list[dict[str, jax.Array]] = []
        self.epoch_losses = epoch_losses
        # The first step compiles: speed is measured from its end.
        self._start = self._epoch_start = self._last_line = 0.0
        self._start_step = self._epoch_start_step = first_step + 1

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Notes one step, without waiting for it (but for the first)."""
        self._step += 1
        self._pending.append(metrics)
        if self._step == self._start_step:
            jax.block_until_ready(metrics)
            self._start = self._epoch_start = self._last_line = time.monotonic()

    def fetch(self) -> None:
        """Waits for the steps so far and checks them.

        Raises:
            FloatingPointError: a loss or a gradient is not finite; names the first such step.
        """
        rows = jax.device_get(self._pending)
        for step, row in enumerate(rows, self._step - len(rows) + 1):
            require_finite(step, loss=row["loss"], grad_norm=row["grad_norm"])
        self.epoch_losses += [[float(row["loss"]), float(row["loss_excess"])] for row in rows]
        self._pending = []
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logging.info("step %d of %d: %s", self._step, self._total_steps, self._how_it_goes())

    def end_epoch(self, epoch: int, train_seconds: float, val: Losses) -> None:
        """Writes the epoch's row and line; to be called after `fetch`.

        Args:
            epoch: epochs that are finished.
            train_seconds: from `train_seconds`, before the validation.
            val: of the validation split.

        Raises:
            FloatingPointError: the validation loss is not finite.
        """
        require_finite(self._step, val_loss=val.loss)
        train = self._mean_losses()
        steps = self._step - self._epoch_start_step
        row = {
            "step": self._step,
            "epoch": min(epoch, self._num_epochs),
            "loss": train.loss,
            "loss_excess": train.excess,
            "val_loss": val.loss,
            "val_loss_excess": val.excess,
            "images_per_s": steps * self._batch_size / train_seconds if steps else math.nan,
            "seconds": train_seconds,
        }
        self._log.write(row)
        logging.info(
            "epoch %d of %d: %s, validation loss %.4f",
            row["epoch"],
            self._num_epochs,
            self._how_it_goes(),
            val.loss,
        )
        self.epoch_losses = []
        self._epoch_start = self._last_line = time.monotonic()
        self._epoch_start_step = self._step

    def train_seconds(self) -> float:
        """Seconds of training in this epoch and process, without the step that compiled."""
        return max(time.monotonic() - self._epoch_start, 1e-9)

    def _mean_losses(self) -> Losses:
        loss, excess = np.mean(np.float64(self.epoch_losses), axis=0)
        return Losses(float(loss), float(excess))

    def _how_it_goes(self) -> str:
        train = self._mean_losses()
        text = f"loss {train.loss:.4f}"
        if abs(train.excess - train.loss) > 1e-9:
            text += f" ({train.excess:.4f} above its floor)"
        steps, seconds = self._step - self._start_step, time.monotonic() - self._start
        if not steps:
            return text
        left = seconds / steps * (self._total_steps - self._step)
        speed = steps * self._batch_size / seconds
        return f"{text}, {speed:.1f} images/s, {progress.duration(left)} left"


def require_finite(step: int, **values: float) -> None:
    """Raises FloatingPointError, with the step and advice, if a value is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"step {step}: {name} is {value}; checkpoints from before are kept. Try a smaller "
                "--config.optimizer.learning_rate (with bfloat16 also --config.model.dtype="
                "float32) in a new --workdir."
            )
