"""The training loop: when to step, log, evaluate, save and stop."""

import dataclasses
import functools
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, pipeline
from jaxlung.host import progress_file
from jaxlung.parallel import distributed, interrupt, sharding
from jaxlung.training import (
    checkpoint,
    checkpoint_notes,
    journal,
    metrics_log,
    train_step,
    transfer,
    validation,
)
from jaxlung.training import control as control_lib
from jaxlung.training import system as system_lib


def train(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    splits: Mapping[str, record.Source],
    *,
    system: system_lib.System | None = None,
    until_epoch: int | None = None,
) -> bool:
    """Trains for `config.epochs` or until early stopping, resuming from `workdir` if it can.

    A run that is stopped with `until_epoch` and resumed computes what it would have computed in
    one go: unlike `config.epochs`, this number changes no schedule.

    Args:
        config: config of the run.
        workdir: folder that gets `checkpoints/`, `metrics.csv` and TensorBoard events.
        splits: "train" and "validation".
        system: what `config` describes, if it was made already.
        until_epoch: stop, with a checkpoint, once so many epochs are finished, 1 or more; None
            trains to the end.

    Returns:
        True if training is complete or `until_epoch` is reached; False if a signal stopped it,
        after saving.

    Raises:
        ValueError: a setting can't be used, a split is empty, or all checkpoints are damaged.
        FloatingPointError: the loss is not finite; the message names the step.
    """
    system = system or system_lib.make_system(config)
    if until_epoch is not None and until_epoch < 1:
        raise ValueError(f"until_epoch: got {until_epoch}, want 1 or more.")
    epochs = min(until_epoch or config.epochs, config.epochs)
    with interrupt.catch() as stop:
        last_step, end_step, stopped = _train(config, workdir, system, splits, epochs, stop)
    if stopped:
        logging.info("saved at step %d of %d; run the same command to resume", last_step, end_step)
    return not stopped


def _train(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    system: system_lib.System,
    splits: Mapping[str, record.Source],
    epochs: int,
    stop: interrupt.Interrupt,
) -> tuple[int, int, bool]:
    """Runs the loop for `epochs` of the run; returns its last step, its end, and if a signal came.

    The end is the step that completes `epochs`.
    """
    num_examples = system.settings.num_examples(len(splits["train"]))
    batch_size = system.settings.batch_size
    total_steps = order.steps_after_epochs(config.epochs, num_examples, batch_size)
    end_step = order.steps_after_epochs(epochs, num_examples, batch_size)
    state, progress = restore_or_init(workdir, system, config.init_from)
    control = control_lib.from_json(progress["control"])
    first_step = step = int(state.step)
    epoch = order.epochs_after(first_step, num_examples, batch_size)
    score_name = system.task.epoch_score[1]
    rows = metrics_log.restore(workdir, first_step, score_name, progress["epochs"], epoch)
    tell_start(config.epochs, epoch, (first_step, total_steps), score_name, rows)
    if first_step >= end_step or control.stopped:
        return first_step, end_step, False

    feed = pipeline.open_feed(splits["train"], system.settings, system.shardings, "train")
    val_split = validation.open_split(system, splits["validation"])
    step_fn = distributed.Program(system.jit_train_step(feed.take, total_steps))
    votes = distributed.Votes(system.shardings.mesh)
    together = system.steps_per_dispatch
    dispatches = [*order.dispatches(first_step, end_step, num_examples, batch_size, together)]
    compile_all(system, state, feed, step_fn, val_split, {len(steps) for steps in dispatches})
    items = feed.items(order.shuffled(config.seed, num_examples), batch_size, dispatches)
    progress_file.tell(phase="training")
    with (
        checkpoint.open_to_save(workdir) as saver,
        metrics_log.MetricsLog(workdir, first_step, score_name, rows) as log,
        jax.transfer_guard("disallow"),
    ):
        notes = open_journal(system, log, config.epochs, (first_step, end_step), progress)
        for steps, item in zip(dispatches, items, strict=True):
            state, metrics = step_fn(state, feed.store, item, system.seed)
            notes.add(metrics)
            step = steps.stop
            epoch = order.epochs_after(step, num_examples, batch_size)
            ends_epoch = epoch > order.epochs_after(steps.start, num_examples, batch_size)
            stops = votes.ask(bool(stop.received))  # Read once: a signal may come later.
            saves = ends_epoch or stops
            if saves:
                notes.fetch()  # A state that is not finite is never saved.
            elif step // config.log_every_steps > steps.start // config.log_every_steps:
                notes.fetch(but_last=True)
            if ends_epoch:
                seconds = notes.train_seconds()
                val = val_split.score(state)
                notes.end_epoch(epoch, seconds, val, control.learning_rate)
                state, control = next_epoch(system, state, control, val.loss)
            if saves:
                progress = make_progress(control, notes.epoch_steps, log.rows)
                rank = find_rank(config.selection, val) if ends_epoch else math.inf
                saver.save(state, progress, rank)
                stops = stops or votes.ask(bool(stop.received))  # It may have come meanwhile.
            if control.stopped or stops:
                break
        stops = votes.ask_now(stops or bool(stop.received))
    return step, end_step, stops


def compile_all(
    system: system_lib.System,
    state: train_step.TrainState,
    feed: feed_lib.Feed,
    step_fn: distributed.Program,
    val_split: validation.Split,
    sizes: Collection[int],
) -> None:
    """Compiles all programs of a run before its first step, so that no later epoch waits for one.

    Args:
        system: what the run's config describes.
        state: the state.
        feed: feed of the training split.
        step_fn: the training step.
        val_split: the validation split.
        sizes: numbers of steps of the run's dispatches.
    """
    start = time.monotonic()
    progress_file.tell(phase="compiling")
    batch_size, where = system.settings.batch_size, system.shardings.steps

    def args_of(size: int) -> tuple[Any, ...]:
        return state, feed.store, feed.abstract_item(size, batch_size, where), system.seed

    jobs: list[distributed.Job] = [(step_fn, args_of(n)) for n in sorted(sizes, reverse=True)]
    jobs += val_split.jobs(state)
    if jax.process_count() == 1:  # Otherwise `checkpoint.Saver` makes no copies.
        jobs.append((checkpoint.COPY, (state,)))
    logging.info("compiling the %d programs of training, validation and checkpoints", len(jobs))
    distributed.compile_ahead(jobs)
    logging.info("compiled %d programs in %.1f s", len(jobs), time.monotonic() - start)


def tell_start(
    num_epochs: int,
    epoch: int,
    steps: tuple[int, int],
    score_name: str,
    rows: Sequence[metrics_log.Row],
) -> None:
    """Tells `progress_file` where a run begins or resumes.

    Args:
        num_epochs: number of epochs of the whole run.
        epoch: number of finished epochs.
        steps: number of finished steps, and of all.
        score_name: name of the validation score.
        rows: rows of the finished epochs.
    """
    last = rows[-1] if rows else {}
    progress_file.tell(
        epoch=min(epoch, num_epochs),
        epochs=num_epochs,
        step=steps[0],
        steps=steps[1],
        score_name=score_name,
        loss=float(last["loss"]) if last else None,
        score=float(last[f"val_{score_name}"]) if last else None,
    )


def restore_or_init(
    workdir: epath.Path, system: system_lib.System, init_from: str
) -> tuple[train_step.TrainState, checkpoint_notes.Progress]:
    """Returns the state and progress of the newest good checkpoint, or those of a fresh start.

    Args:
        workdir: folder of the run.
        system: what its config describes.
        init_from: folder of a trained run whose network a fresh start copies; "" for none.

    Raises:
        ValueError: there are checkpoints, but none can be resumed.
    """
    with checkpoint.open_manager(workdir) as manager:
        restored = checkpoint.restore_latest(manager, system.abstract_state())
    if restored is None:
        state = system.init_state()
        if init_from:
            state = transfer.copy_network(init_from, state)
        control = control_lib.start(system.optimizer.learning_rate)
        return state, make_progress(control, [], [])
    state, progress = restored
    step = int(state.step)
    missing = {"control", "epoch_steps"} - progress.keys()
    if missing:
        raise ValueError(
            f"{workdir / 'checkpoints' / str(step)}: an earlier version saved it without "
            f"{' and '.join(sorted(missing))}, so training can't be resumed; choose another "
            "--workdir."
        )
    checkpoint.set_aside_newer(workdir, step)
    logging.info("resuming from step %d", step)
    return state, {"epochs": None} | progress  # Earlier versions kept epochs only in a file.


def open_journal(
    system: system_lib.System,
    log: metrics_log.MetricsLog,
    num_epochs: int,
    steps: tuple[int, int],
    progress: checkpoint_notes.Progress,
) -> journal.Journal:
    """Opens the journal of the loop's `steps`, the first and the last."""
    return journal.Journal(
        log,
        num_epochs=num_epochs,
        unit="patches" if system.is_volumetric else "images",
        batch_size=system.settings.batch_size,
        first_step=steps[0],
        total_steps=steps[1],
        epoch_steps=progress["epoch_steps"],
        score=(
            system.task.epoch_score[1],
            functools.partial(validation.epoch_score, system.task),
        ),
    )


def make_progress(
    control: control_lib.State, epoch_steps: list[list[Any]], epochs: list[metrics_log.Row]
) -> checkpoint_notes.Progress:
    """Returns what a checkpoint holds besides the state, as JSON values.

    Args:
        control: state of the control rules for the next epoch.
        epoch_steps: steps of the unfinished epoch, see `journal.Journal`.
        epochs: rows of `metrics.csv`.
    """
    control_values = control_lib.to_json(control)
    # Copies: the lists grow while a thread saves them.
    return {"control": control_values, "epoch_steps": list(epoch_steps), "epochs": list(epochs)}


def next_epoch(
    system: system_lib.System,
    state: train_step.TrainState,
    control: control_lib.State,
    val_loss: float,
) -> tuple[train_step.TrainState, control_lib.State]:
    """Applies the control rules: lowers the learning rate of the next epoch, or ends training."""
    after = control_lib.after_epoch(system.control, control, val_loss)
    if after.learning_rate != control.learning_rate:
        logging.info("learning rate %g", after.learning_rate)
        rate = sharding.put(np.float32(after.learning_rate), system.shardings.replicated)
        state = dataclasses.replace(state, learning_rate=rate)
    if after.stopped:
        logging.info("stopped: no lower validation loss for %d epochs", after.stop_wait)
    return state, after


def find_rank(selection: str, val: journal.Means) -> float:
    """Returns the number that is lowest for the best checkpoint, for one of `SELECTIONS`."""
    return -val.score if selection == "best_score" else val.loss
