"""The interface that both feeds share: examples on their way to the step."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import NamedSharding

from jaxlung.data.feed import order

# "images" and "masks": [B, H, W] uint8; for patches [B, D, H, W] int16 and uint8. "labels": [B].
Batch = dict[str, jax.Array]

# (order, batch_size, dispatches) -> items on the device, one for each dispatch: arrays whose first
# axes are [K, B], for the K steps of the dispatch.
MakeItems = Callable[[order.Order, int, Iterable[range]], Iterator[Any]]
Take = Callable[[Any, Any], Batch]  # (store, item of one step) -> batch


@dataclasses.dataclass(frozen=True)
class Feed:
    """The way of one split's examples to the training step.

    Attributes:
        num_examples: number of examples in an epoch: images, or patches.
        example: shape and type of what an item holds for one example.
        is_resident: True if the split's records stay on the device for the whole run.
        store: records that the jitted step takes its batches from; {} if items are the batches.
        take: function `(store, item) -> Batch` for one step; runs inside jit.
        items: makes the items of some dispatches; see `order.dispatches`.
    """

    num_examples: int
    example: Any
    is_resident: bool
    store: Any
    take: Take
    items: MakeItems

    def batches(self, example_at: order.Order, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """Yields the batches of the first steps, for code that runs `take` outside its own jit.

        Args:
            example_at: order of the examples.
            batch_size: examples per batch, over all devices.
            num_steps: number of batches.
        """
        for item in self.items(example_at, batch_size, order.one_by_one(0, num_steps)):
            yield self._take_first(self.store, item)

    @functools.cached_property
    def _take_first(self) -> Callable[[Any, Any], Batch]:
        return jax.jit(lambda store, item: self.take(store, first_step(item)))

    def abstract_item(self, num_steps: int, batch_size: int, where: NamedSharding) -> Any:
        """Returns shapes, types and shardings of an item of `num_steps` steps.

        Args:
            num_steps: number of steps of the dispatch.
            batch_size: examples per batch, over all devices.
            where: the place of items, `Shardings.steps`.
        """
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (num_steps, batch_size, *x.shape), x.dtype, sharding=where
            ),
            self.example,
        )


def rounded(size: int) -> int:
    """Returns the size of a store for `size` records, slices, rows or columns: up to 1/8 more.

    A step's program is compiled for the shape of its store. Folds of the same data differ a little
    in size and, rounded up, mostly share a program. The sizes are 8 to 16 times a power of two, so
    that the rest is small; nothing up to 16 is rounded (our choice).
    """
    step = 2 ** max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def first_step(item: Any) -> Any:
    """Returns the part of a dispatch's item that its first step uses; runs inside jit."""
    return jax.tree.map(lambda array: array[0], item)
