"""What a run says: means over an epoch, and what is not finite."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.host import progress_file
from jaxlung.training import journal


class Rows:
    """Stands for a `MetricsLog`."""

    def __init__(self):
        self.rows = []

    def write(self, row):
        self.rows.append(row)


def accuracy(confusion):
    return np.trace(confusion) / np.sum(confusion)


def make(log, epoch_steps=(), first_step=0):
    return journal.Journal(
        log,
        num_epochs=2,
        unit="images",
        batch_size=4,
        first_step=first_step,
        total_steps=10,
        epoch_steps=list(epoch_steps),
        score=("accuracy", accuracy),
    )


def step(loss, grad_norm=1.0, confusion=((1, 0), (0, 1))):
    metrics = {"loss": loss, "loss_excess": loss - 1, "grad_norm": grad_norm, "schedule": 0.5}
    metrics = {name: jnp.array([x], jnp.float32) for name, x in metrics.items()}
    return metrics | {"confusion": jnp.array([confusion])}


def test_an_epochs_row_is_the_mean_of_its_steps_also_of_those_before_a_stop():
    log = Rows()
    notes = make(log, epoch_steps=[[6.0, 5.0, [[7, 0], [0, 1]]]], first_step=1)
    for loss in (2.0, 4.0):
        notes.add(step(loss, confusion=((0, 1), (0, 0))))
    notes.fetch()
    notes.end_epoch(1, 2.0, journal.Means(0.5, 0.25, 0.75), 1e-3)
    (row,) = log.rows
    assert (row["step"], row["epoch"], row["loss"], row["loss_excess"]) == (3, 1, 4.0, 3.0)
    assert (row["val_loss"], row["val_loss_excess"]) == (0.5, 0.25)
    # Of all pixels: 8 + 0 + 0 of 8 + 1 + 1 are right.
    assert (row["accuracy"], row["val_accuracy"]) == (0.8, 0.75)
    assert row["learning_rate"] == 0.5e-3  # By its schedule half of the rate.
    # The first step compiled; one step of four images is left in two seconds.
    assert row["images_per_s"] == 2.0
    assert notes.epoch_steps == []


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (step(math.nan), "step 7: loss is nan"),
        (step(math.inf), "step 7: loss is inf"),
        (step(1.0, grad_norm=math.nan), "step 7: grad_norm is nan"),
    ],
)
def test_the_first_step_that_is_not_finite_is_named(spoilt, message):
    notes = make(Rows(), first_step=5)
    for metrics in (step(1.0), spoilt, spoilt):
        notes.add(metrics)
    with pytest.raises(FloatingPointError, match=message):
        notes.fetch()


def test_a_validation_loss_that_is_not_finite_is_an_error_and_writes_no_row():
    log = Rows()
    notes = make(log)
    notes.add(step(1.0))
    notes.fetch()
    with pytest.raises(FloatingPointError, match="step 1: val_loss is nan"):
        notes.end_epoch(1, 1.0, journal.Means(math.nan, 0.0, 0.0), 1e-3)
    assert log.rows == []


def test_the_newest_dispatch_is_fetched_later():
    notes = make(Rows())
    for loss in (1.0, 2.0, math.nan):
        notes.add(step(loss))
    notes.fetch(but_last=True)  # The last one is not looked at yet.
    assert [row[0] for row in notes.epoch_steps] == [1.0, 2.0]
    with pytest.raises(FloatingPointError, match="step 3: loss is nan"):
        notes.fetch()


def test_the_steps_of_a_dispatch_are_noted_one_by_one():
    notes = make(Rows(), first_step=4)
    three = {name: jnp.concatenate([x] * 3) for name, x in step(1.0).items()}
    three["loss"] = jnp.array([1.0, math.inf, 3.0])
    notes.add(step(1.0))
    notes.add(three)
    with pytest.raises(FloatingPointError, match="step 7: loss is inf"):
        notes.fetch()
    assert [row[0] for row in notes.epoch_steps] == [1.0, 1.0]


def test_progress_is_told_from_what_was_fetched(tmp_path, monkeypatch):
    """No more is fetched from the device for it: a step that waits to be fetched isn't told."""
    told = {}
    monkeypatch.setattr(progress_file, "tell", told.update)
    notes = make(Rows(), first_step=1)
    for loss in (2.0, 4.0, 9.0):
        notes.add(step(loss))
    notes.fetch(but_last=True)
    assert (told["step"], told["loss"], "score" in told) == (3, 3.0, False)
    notes.fetch()
    notes.end_epoch(1, 2.0, journal.Means(0.5, 0.25, 0.75), 1e-3)
    assert (told["step"], told["epoch"], told["loss"], told["score"]) == (4, 1, 5.0, 0.75)
    # Six steps of four images are left.
    assert told["seconds_left"] == pytest.approx(6 * 4 / told["images_per_s"])


def test_progress_is_told_once_a_second_within_an_epoch(monkeypatch):
    times = []
    monkeypatch.setattr(progress_file, "tell", lambda **told: times.append(now[0]))
    now = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    notes = make(Rows())
    for _ in range(30):
        now[0] += 0.1
        notes.add(step(1.0))
        notes.fetch()
    assert 2 <= len(times) <= 4
