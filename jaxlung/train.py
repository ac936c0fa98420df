"""The training loop: when to step, log, evaluate, save and stop."""

from collections.abc import Mapping

import jax
import ml_collections as mlc
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from jaxlung import checkpoint, interrupt, journal, metrics_log, train_step
from jaxlung import system as system_lib
from jaxlung.data import order, pipeline, record


def train(config: mlc.ConfigDict, workdir: epath.Path, splits: Mapping[str, record.Source]) -> bool:
    """Trains for `config.epochs`, resuming from `workdir` if it can.

    Args:
        config: the run.
        workdir: gets `checkpoints/`, `metrics.csv` and TensorBoard events.
        splits: "train" and "validation".

    Returns:
        Whether the run is complete; False if a signal stopped it, after saving.

    Raises:
        ValueError: a setting that can't be, an empty split, or only damaged checkpoints.
        FloatingPointError: the loss is not finite; names the step.
    """
    with (
        interrupt.catch() as stop,
        checkpoint.open_manager(workdir) as manager,  # Finishes its saves at the end.
    ):
        last_step, total_steps = _train(config, workdir, splits, manager, stop)
    if stop.received:
        logging.info("saved at step %d of %d; the same command goes on", last_step, total_steps)
    return not stop.received


def _train(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    splits: Mapping[str, record.Source],
    manager: ocp.CheckpointManager,
    stop: interrupt.Interrupt,
) -> tuple[int, int]:
    """The loop itself; the steps that are done and those of the whole run."""
    system = system_lib.make_system(config)
    num_records, batch_size = len(splits["train"]), system.settings.batch_size
    total_steps = order.steps_after_epochs(config.epochs, num_records, batch_size)
    state, progress = restore_or_init(manager, system)
    first_step = step = int(state.step)
    if first_step >= total_steps:
        return total_steps, total_steps

    road = pipeline.open_road(splits["train"], system.settings, system.shardings, "train")
    val_road = pipeline.open_road(
        splits["validation"], system.settings, system.shardings, "validation"
    )
    step_fn = system.jit_train_step(road.take)
    logging.info("compiling the training step")
    items = road.items(
        order.shuffled(config.seed, num_records), batch_size, first_step, total_steps
    )
    with (
        metrics_log.MetricsLog(workdir, first_step) as log,
        jax.transfer_guard("disallow"),
    ):
        notes = journal.Journal(
            log,
            num_epochs=config.epochs,
            batch_size=batch_size,
            first_step=first_step,
            total_steps=total_steps,
            epoch_losses=progress["epoch_losses"],
        )
        for step, item in enumerate(items, first_step + 1):
            state, metrics = step_fn(state, road.store, item, system.seed)
            notes.add(metrics)
            epoch = order.epochs_after(step, num_records, batch_size)
            ends_epoch = epoch > order.epochs_after(step - 1, num_records, batch_size)
            if ends_epoch or stop.received or step % config.log_every_steps == 0:
                notes.fetch()  # Before a save: a state that is not finite is never saved.
            if ends_epoch:
                seconds = notes.train_seconds()
                val = mean_losses(system, state, val_road)
                notes.end_epoch(epoch, seconds, val)
                checkpoint.save(manager, state, {"epoch_losses": []}, val.loss)
            elif stop.received:
                checkpoint.save(manager, state, {"epoch_losses": notes.epoch_losses})
            if stop.received:
                break
    return step, total_steps


def restore_or_init(
    manager: ocp.CheckpointManager, system: system_lib.System
) -> tuple[train_step.TrainState, checkpoint.Progress]:
    """The newest good checkpoint, or a fresh state; created where it will live."""
    restored = checkpoint.restore_latest(manager, system.abstract_state())
    if restored is None:
        return system.init_state(), {"epoch_losses": []}
    state, progress = restored
    checkpoint.set_aside_newer(manager, int(state.step))
    logging.info("going on from step %d", int(state.step))
    return state, progress


def mean_losses(
    system: system_lib.System, state: train_step.TrainState, road: pipeline.Road
) -> journal.Losses:
    """Mean losses over all images of a split."""
    batch_size = system.settings.eval_batch_size
    num_steps = -(-road.num_records // batch_size)
    batches = road.batches(order.in_turn(road.num_records), batch_size, num_steps)
    outputs = (system.eval_step(state, batch) for batch in batches)
    fetched = jax.device_get([(output["loss"], output["loss_excess"]) for output in outputs])
    # The last batch is padded: what is past the split's end is dropped.
    means = np.concatenate(fetched, axis=1)[:, : road.num_records].mean(axis=1, dtype=np.float64)
    return journal.Losses(*means.tolist())
