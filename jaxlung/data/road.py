"""What both data roads are to the code that drives on them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxlung.data import order

# "images" and "masks" [B, H, W] uint8, or of patches [B, D, H, W] int16 and uint8; "labels" [B].
Batch = dict[str, jax.Array]

# (order, batch_size, first_step, last_step) -> items on the device, one for each step.
MakeItems = Callable[[order.Order, int, int, int], Iterator[Any]]
Take = Callable[[Any, Any], Batch]


@dataclasses.dataclass(frozen=True)
class Road:
    """How the examples of one split reach the step.

    Attributes:
        num_examples: examples of an epoch: images, or patches.
        store: what stays on the device for the whole run; an argument of the jitted step.
        take: inside jit, `(store, item) -> Batch`.
        items: makes the items of a range of steps.
    """

    num_examples: int
    store: Any
    take: Take
    items: MakeItems

    def batches(self, example_at: order.Order, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """Batches of the first steps, for code that keeps `take` out of its own jit."""
        take = jax.jit(self.take)
        for item in self.items(example_at, batch_size, 0, num_steps):
            yield take(self.store, item)
