"""The interface that both feeds share: examples on their way to the step."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from jaxlung.data.feed import order

# "images" and "masks" [B, H, W] uint8, or of patches [B, D, H, W] int16 and uint8; "labels" [B].
Batch = dict[str, jax.Array]

# (order, batch_size, dispatches) -> items on the device, one for each dispatch: arrays that begin
# with the axes [K, B], for the K steps of the dispatch.
MakeItems = Callable[[order.Order, int, Iterable[range]], Iterator[Any]]
Take = Callable[[Any, Any], Batch]  # of the item of one step


@dataclasses.dataclass(frozen=True)
class Feed:
    """How the examples of one split reach the step.

    Attributes:
        num_examples: examples of an epoch: images, or patches.
        store: what stays on the device for the whole run; an argument of the jitted step.
        take: inside jit, `(store, item) -> Batch`, of one step.
        items: makes the items of some dispatches; see `order.dispatches`.
    """

    num_examples: int
    store: Any
    take: Take
    items: MakeItems

    def batches(self, example_at: order.Order, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """Batches of the first steps, for code that keeps `take` out of its own jit."""
        take = jax.jit(lambda store, item: self.take(store, first_step(item)))
        for item in self.items(example_at, batch_size, order.one_by_one(0, num_steps)):
            yield take(self.store, item)


def first_step(item: Any) -> Any:
    """What the first step of a dispatch takes of its item; inside jit."""
    return jax.tree.map(lambda array: array[0], item)
