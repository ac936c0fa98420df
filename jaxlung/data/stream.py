"""Records read from disk by Grain threads while the device computes, two batches ahead."""

import collections
import itertools
from collections.abc import Callable, Iterator

import grain
import jax
import numpy as np

from jaxlung import sharding
from jaxlung.data import example, order, record
from jaxlung.data import road as road_lib
from jaxlung.data import settings as settings_lib

MakeExample = Callable[[int, int], dict[str, np.ndarray]]
BATCHES_AHEAD = 2  # One computed on, one in flight.


def load_store(
    source: record.Source,
    settings: settings_lib.ImageSettings,
    shardings: sharding.Shardings,
    name: str,
) -> dict[str, jax.Array]:
    """Nothing stays on the device."""
    del source, settings, shardings, name
    return {}


def take(store: dict[str, jax.Array], item: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The item is the batch; inside jit."""
    del store
    return item


def make_items(
    source: record.Source, settings: settings_lib.ImageSettings, shardings: sharding.Shardings
) -> road_lib.MakeItems:
    """Items of this road are batches: "images" and "masks" [B, S, S], "labels" [B], uint8."""

    def make_example(position: int, index: int) -> dict[str, np.ndarray]:
        del position
        return example.make(source[index], settings)

    return make_batches(make_example, settings.num_threads, shardings)


def make_batches(
    make_example: MakeExample,
    num_threads: int,
    shardings: sharding.Shardings,
) -> road_lib.MakeItems:
    """Items that are batches, made on the host.

    Args:
        make_example: position in the run, index -> one example; runs in several threads.
        num_threads: that make examples.
        shardings: where batches go.
    """

    def items(
        example_at: order.Order, batch_size: int, first_step: int, last_step: int
    ) -> Iterator[dict[str, jax.Array]]:
        batches = iter(
            grain.MapDataset.range(first_step * batch_size, last_step * batch_size)
            .map(lambda position: make_example(int(position), example_at(int(position))))
            .batch(batch_size)
            .to_iter_dataset(
                grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
            )
        )
        return prefetch(sharding.put(batch, shardings.batch) for batch in batches)

    return items


def prefetch(items: Iterator[dict[str, jax.Array]]) -> Iterator[dict[str, jax.Array]]:
    """Draws `BATCHES_AHEAD` items before they are asked for, so that transfers overlap compute."""
    ahead = collections.deque(itertools.islice(items, BATCHES_AHEAD))
    while ahead:
        yield ahead.popleft()
        ahead.extend(itertools.islice(items, 1))
