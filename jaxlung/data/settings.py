"""How records become batches: the settings that both data roads share."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jaxlung.data import order

# (order, batch_size, first_step, last_step) -> items on the device, one for each step.
MakeItems = Callable[[order.Order, int, int, int], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of a config's `data` section that say how records become batches.

    Attributes:
        image_size: rows and columns of a network's input, pixels.
        resize: "squash", or "pad" to keep the aspect ratio.
        batch_size: images per training step, over all devices.
        eval_batch_size: images per evaluation step, over all devices.
        placement: "device" keeps whole splits on the device, "host" streams, "auto" chooses.
        num_threads: threads that decode.
    """

    image_size: int
    resize: str
    batch_size: int
    eval_batch_size: int
    placement: str
    num_threads: int
