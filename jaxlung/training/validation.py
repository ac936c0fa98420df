"""Computes loss and score of the validation split at the end of an epoch."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, pipeline
from jaxlung.data.transforms import volumes
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib
from jaxlung.training import journal, train_step
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import sliding_window

Validate = Callable[[train_step.TrainState], journal.Means]


def open_split(system: system_lib.System, source: record.Source) -> Validate:
    """Reads the validation split, and returns a function that scores a network on it.

    For images, loss and score are over all images. For volumes, the loss is over as many patches
    as in an epoch, always the same ones, and the score is the mean over whole volumes.
    """
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    if not system.is_volumetric:
        return lambda state: score_feed(system, state, feed)
    whole = [volumes.load(source[i], system.patch_settings) for i in range(len(source))]
    # If the patches' volumes fit on the device, these do too.
    on_device = [volume_inference.put(system, x) if feed.store else None for x in whole]

    def validate(state: train_step.TrainState) -> journal.Means:
        means = score_feed(system, state, feed)
        return means._replace(score=score_volumes(system, state, whole, on_device))

    return validate


def score_feed(
    system: system_lib.System, state: train_step.TrainState, feed: feed_lib.Feed
) -> journal.Means:
    """Returns mean losses over all examples of a split, and the validation score."""
    batch_size = system.settings.eval_batch_size
    num_steps = -(-feed.num_examples // batch_size)
    batches = feed.batches(order.in_turn(feed.num_examples), batch_size, num_steps)
    names = ("loss", "loss_excess", "confusion")
    outputs = (system.eval_step(state, batch) for batch in batches)
    fetched = jax.device_get([[output[name] for name in names] for output in outputs])
    # The last batch is padded: what is past the split's end is dropped.
    loss, excess, confusions = (
        np.concatenate(parts)[: feed.num_examples] for parts in zip(*fetched, strict=True)
    )
    return journal.Means(
        float(loss.mean(dtype=np.float64)),
        float(excess.mean(dtype=np.float64)),
        epoch_score(system.task, confusions.sum(axis=0, dtype=np.int64)),
    )


def score_volumes(
    system: system_lib.System,
    state: train_step.TrainState,
    whole: Sequence[volumes.Volume],
    on_device: Sequence[sliding_window.OnDevice | None],
) -> float:
    """Returns the mean over volumes of the task's `rank_by` score.

    It is quick, as few windows overlap.

    Args:
        system: what the run's config describes.
        state: the network.
        whole: the volumes.
        on_device: the volumes from `volume_inference.put`; None for one that is sent each time.
    """
    quick = functools.partial(
        volume_inference.predict,
        system,
        state,
        overlap=system.volume_inference.validation_overlap,
        mirror=False,
    )
    confusions = []
    for volume, there in zip(whole, on_device, strict=True):
        found = quick(volume, on_device=there)
        preds = volume_inference.mask_of(system, found)[found.box]
        levels = system.task.true_levels(volume.mask[volume.unpadded], 0)
        confusions.append(overlap.confusion_of_one(levels, preds.astype(np.uint8), 2))
    return float(system.task.image_scores(np.array(confusions))[system.task.rank_by].mean())


def epoch_score(task: task_lib.Task, confusion: np.ndarray) -> float:
    """Returns the validation score of a split's [L, L] confusion matrix."""
    return float(task.pooled_scores(confusion)[task.epoch_score[0]])
