"""Fits the temperature of a network to the validation split."""

from collections.abc import Iterator

import numpy as np
from absl import logging

from jaxlung.data import record
from jaxlung.data.feed import order, pipeline
from jaxlung.host import progress
from jaxlung.metrics import temperature
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training.inference import images as image_inference
from jaxlung.training.inference import volumes as volume_inference


def fit_temperature(
    system: system_lib.System, state: train_step.TrainState, source: record.Source
) -> float:
    """Returns the temperature that fits a split best; 1 if the split doesn't determine one.

    Images are judged at the network's size. Volumes are judged on their own voxels, inside the
    lungs if only they can hold foreground; the logits of windows are averaged, as predictions
    average their probabilities.

    Args:
        system: what the run's config describes, without a temperature.
        state: the network.
        source: the validation split.
    """
    count = count_volumes if system.is_volumetric else count_images
    table = sum(count(system, state, source), np.zeros((2, 2, temperature.NUM_BINS)))
    found = temperature.fit(table)
    if found is None:
        logging.warning(
            "the validation split determines no temperature (a single class, or classes that the "
            "network separates without an error or not at all): it is 1"
        )
        return 1.0
    before, after = (temperature.mean_loss(table, x) for x in (1.0, found))
    logging.info(
        "temperature %.4g fits the validation split best: negative log-likelihood %.5g, without "
        "it %.5g",
        found,
        after,
        before,
    )
    return found


def count_images(
    system: system_lib.System, state: train_step.TrainState, source: record.Source
) -> Iterator[np.ndarray]:
    """Yields the table of `temperature.count` of each image."""
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    outputs = image_inference.predict(
        system,
        state,
        feed,
        order.in_turn(feed.num_examples),
        feed.num_examples,
        step=system.compare_step,
    )
    for output in progress.report(outputs, "calibrating", "images", feed.num_examples):
        yield temperature.count(output["levels"], output["logits"])


def count_volumes(
    system: system_lib.System, state: train_step.TrainState, source: record.Source
) -> Iterator[np.ndarray]:
    """Yields the table of `temperature.count` of slices of each volume, which save memory."""
    for index in progress.report(range(len(source)), "calibrating", "volumes", len(source)):
        item = source[index]
        logits = volume_inference.predict_record(system, state, item, step=system.logits_step)
        levels = system.task.true_levels(item.mask, 0)
        # Elsewhere a 0 is not the network's output.
        inside = system.volume_inference.inside_lungs
        judged = item.mask & record.LUNG != 0 if inside else np.ones(item.mask.shape, bool)
        for level, logit, here in zip(levels, logits, judged, strict=True):
            yield temperature.count(level[here], logit[here])
