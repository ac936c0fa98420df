"""The network over images: outputs image by image, in NumPy."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order
from jaxlung.training import system as system_lib
from jaxlung.training import train_step


def predict(
    system: system_lib.System,
    state: train_step.TrainState,
    feed: feed_lib.Feed,
    record_at: order.Order,
    num_images: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the outputs of `Step.evaluate` for one image after the other.

    Args:
        system: the run.
        state: the network.
        feed: to one split.
        record_at: the record at each position.
        num_images: how many positions; the padding of the last batch is left out.
    """
    batch_size = system.settings.eval_batch_size
    batches = feed.batches(record_at, batch_size, -(-num_images // batch_size))
    for step, batch in enumerate(batches):
        outputs = jax.device_get(system.eval_step(state, batch))
        for row in range(min(batch_size, num_images - step * batch_size)):
            yield {key: values[row] for key, values in outputs.items()}
