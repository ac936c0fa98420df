"""Computes loss and score of the validation split at the end of an epoch."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, pipeline, stream
from jaxlung.data.transforms import volumes
from jaxlung.metrics import overlap
from jaxlung.parallel import distributed
from jaxlung.tasks import task as task_lib
from jaxlung.training import journal, train_step
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import sliding_window


@dataclasses.dataclass(frozen=True)
class Split:
    """The validation split, ready to be scored.

    For images, loss and score are over all images. For volumes, the loss is over as many patches
    as in an epoch, always the same ones, and the score is the mean over whole volumes.

    Attributes:
        system: what the run's config describes.
        feed: feed of the split.
        program: `System.jit_validation_step`.
        whole: the volumes; none for images.
        on_device: the volumes from `volume_inference.put`; None for one that is sent each time.
    """

    system: system_lib.System
    feed: feed_lib.Feed
    program: distributed.Program
    whole: Sequence[volumes.Volume]
    on_device: Sequence[sliding_window.OnDevice | None]

    @property
    def batch_size(self) -> int:
        """Images or patches per batch."""
        return batch_size(self.system.settings)

    def dispatches(self) -> list[range]:
        """Returns the batches in groups of one size that are sent to the device together."""
        num_batches = -(-self.feed.num_examples // self.batch_size)
        num_groups = -(-num_batches // self.system.steps_per_dispatch)
        size = -(-num_batches // num_groups)
        return [range(first, first + size) for first in range(0, num_groups * size, size)]

    def jobs(self, state: train_step.TrainState) -> list[distributed.Job]:
        """Returns the programs and their arguments, for `distributed.compile_ahead`.

        The small programs that cut windows and blend them are left out.
        """
        size = len(self.dispatches()[0])
        item = self.feed.abstract_item(size, self.batch_size, self.system.shardings.steps)
        jobs: list[distributed.Job] = [(self.program, (state, self.feed.store, item))]
        if self.whole:
            windows = volume_inference.abstract_windows(self.system)
            jobs.append((self.system.window_step, (state, windows)))
        return jobs

    def score(self, state: train_step.TrainState) -> journal.Means:
        """Returns mean losses over all examples of the split, and the validation score."""
        means = score_feed(self, state)
        if not self.system.is_volumetric:
            return means
        score = score_volumes(self.system, state, self.whole, self.on_device)
        return means._replace(score=score)


def batch_size(settings: settings_lib.Settings) -> int:
    """Returns examples per batch: a device that can train on so many can also score them."""
    return max(settings.batch_size, settings.eval_batch_size)


def open_split(system: system_lib.System, source: record.Source) -> Split:
    """Reads the validation split."""
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    program = distributed.Program(system.jit_validation_step(feed.take))
    if not system.is_volumetric:
        return Split(system, feed, program, (), ())
    whole = [volumes.load(source[i], system.patch_settings) for i in range(len(source))]
    # If the patches' volumes fit on the device, these do too.
    on_device = [volume_inference.put(system, x) if feed.is_resident else None for x in whole]
    return Split(system, feed, program, whole, on_device)


def score_feed(split: Split, state: train_step.TrainState) -> journal.Means:
    """Returns mean losses over all examples of a feed, and the score of their pixels together."""
    feed, num_examples = split.feed, split.feed.num_examples
    items = feed.items(order.in_turn(num_examples), split.batch_size, split.dispatches())
    # Nothing is waited for before all of it is sent.
    fetched = jax.device_get([split.program(state, feed.store, item) for item in items])
    # The last batches are padded: what is past the split's end is dropped.
    loss, excess, confusions = (
        np.concatenate([rows for scores in fetched for rows in scores[name]])[:num_examples]
        for name in ("loss", "loss_excess", "confusion")
    )
    return journal.Means(
        float(loss.mean(dtype=np.float64)),
        float(excess.mean(dtype=np.float64)),
        epoch_score(split.system.task, confusions.sum(axis=0, dtype=np.int64)),
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
    maps = (quick(volume, on_device=x) for volume, x in zip(whole, on_device, strict=True))
    confusions = []
    # The device is at work on the next volumes while the host looks at one.
    for volume, found in zip(whole, stream.prefetch(maps), strict=True):
        preds = volume_inference.mask_of(system, found)[found.box]
        levels = system.task.true_levels(volume.mask[volume.unpadded], 0)
        confusions.append(overlap.confusion_of_one(levels, preds.astype(np.uint8), 2))
    return float(system.task.image_scores(np.array(confusions))[system.task.rank_by].mean())


def epoch_score(task: task_lib.Task, confusion: np.ndarray) -> float:
    """Returns the validation score of a split's [L, L] confusion matrix."""
    return float(task.pooled_scores(confusion)[task.epoch_score[0]])
