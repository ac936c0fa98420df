"""Runs a network over images; outputs are NumPy arrays, image by image."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order
from jaxlung.training import system as system_lib
from jaxlung.training import train_step

Forward = Callable[[train_step.TrainState, feed_lib.Batch], dict[str, jax.Array]]


def predict(
    system: system_lib.System,
    state: train_step.TrainState,
    feed: feed_lib.Feed,
    record_at: order.Order,
    num_images: int,
    step: Forward | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the outputs of `Step.evaluate`, or of `step`, for one image after the other.

    Args:
        system: what the run's config describes.
        state: the network.
        feed: feed of one split.
        record_at: function from position to record.
        num_images: number of positions; the padding of the last batch is left out.
        step: a jitted step of the system; None for its `eval_step`.
    """
    step = step or system.eval_step
    batch_size = system.settings.eval_batch_size
    batches = feed.batches(record_at, batch_size, -(-num_images // batch_size))
    for index, batch in enumerate(batches):
        outputs = jax.device_get(step(state, batch))
        for row in range(min(batch_size, num_images - index * batch_size)):
            yield {key: values[row] for key, values in outputs.items()}
