"""The feed that reads records with Grain threads while the device computes."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import grain
import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import example, order
from jaxlung.data.feed import feed as feed_lib
from jaxlung.parallel import sharding

T = TypeVar("T")
MakeExample = Callable[[int, int], dict[str, np.ndarray]]
AHEAD = 2  # Dispatches: the device computes one while the next is transferred.
BATCHES_PER_THREAD = 2  # Batches that each of Grain's threads keeps ready.


def most_ready(num_threads: int) -> int:
    """Returns the largest number of dispatches that can be ready before they are asked for."""
    return AHEAD + BATCHES_PER_THREAD * num_threads


def load_store(
    source: record.Source[record.Record],
    settings: settings_lib.ImageSettings,
    shardings: sharding.Shardings,
    name: str,
) -> dict[str, jax.Array]:
    """Returns nothing, as this feed keeps nothing on the device."""
    del source, settings, shardings, name
    return {}


def take(store: dict[str, jax.Array], item: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the item, which is the batch; runs inside jit."""
    del store
    return item


def item_specs(settings: settings_lib.Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and types of what an item holds for one example: all of it."""
    return example.specs(settings)


def make_items(
    source: record.Source[record.Record],
    settings: settings_lib.ImageSettings,
    shardings: sharding.Shardings,
) -> feed_lib.MakeItems:
    """Returns a maker of items: "images", "masks" [K, B, S, S] and "labels" [K, B], uint8."""

    def make_example(position: int, index: int) -> dict[str, np.ndarray]:
        del position
        return example.make(source[index], settings)

    return make_batches(make_example, settings.num_threads, shardings)


def make_batches(
    make_example: MakeExample,
    num_threads: int,
    shardings: sharding.Shardings,
) -> feed_lib.MakeItems:
    """Returns a maker of items that are batches; a process makes the rows of its own devices.

    Args:
        make_example: function (position in the run, index of the example) -> one example; runs in
            several threads.
        num_threads: number of threads that make examples.
        shardings: places of batches on the devices.
    """

    def items(
        example_at: order.Order, batch_size: int, dispatches: Iterable[range]
    ) -> Iterator[dict[str, jax.Array]]:
        dispatches = list(dispatches)
        rows = sharding.local_rows(batch_size, shardings)
        first_step, last_step = dispatches[0].start, dispatches[-1].stop

        def make(number: np.int64) -> dict[str, np.ndarray]:
            step, row = divmod(int(number), len(rows))
            position = step * batch_size + int(rows[row])
            return make_example(position, example_at(position))

        batches = iter(
            grain.MapDataset.range(first_step * len(rows), last_step * len(rows))
            .map(make)
            .batch(len(rows))
            .to_iter_dataset(
                grain.ReadOptions(
                    num_threads=num_threads, prefetch_buffer_size=BATCHES_PER_THREAD * num_threads
                )
            )
        )
        stacked = (_stack(list(itertools.islice(batches, len(steps)))) for steps in dispatches)
        return prefetch(sharding.put_rows(item, batch_size, shardings) for item in stacked)

    return items


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Draws `AHEAD` items before they are asked for, so that transfers overlap compute."""
    ahead = collections.deque(itertools.islice(items, AHEAD))
    while ahead:
        yield ahead.popleft()
        ahead.extend(itertools.islice(items, 1))


def _stack(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the batches of several steps as one item."""
    if len(batches) == 1:  # Without a copy.
        return {name: array[None] for name, array in batches[0].items()}
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
