"""From a source to batches on the device, by either road; the same batches by both."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxlung import sharding
from jaxlung.data import order, record, resident, resize, stream
from jaxlung.data import settings as settings_lib

Batch = dict[str, jax.Array]  # "images" and "masks" [B, S, S], "labels" [B], uint8


@dataclasses.dataclass(frozen=True)
class Road:
    """How the records of one split reach the step.

    Attributes:
        num_records: records of the split.
        store: what stays on the device for the whole run; an argument of the jitted step.
        take: inside jit, `(store, item) -> Batch`.
        items: makes the items of a range of steps.
    """

    num_records: int
    store: Any
    take: Callable[[Any, Any], Batch]
    items: settings_lib.MakeItems

    def batches(self, record_at: order.Order, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """Batches of the first steps, for code that keeps `take` out of its own jit."""
        take = jax.jit(self.take)
        for item in self.items(record_at, batch_size, 0, num_steps):
            yield take(self.store, item)


def split_section(section: dict[str, Any]) -> tuple[dict[str, Any], settings_lib.Settings]:
    """Parts a config's `data` section into the dataset's own fields and its `Settings`.

    Raises:
        ValueError: a field has a value that can't be.
    """
    names = [field.name for field in dataclasses.fields(settings_lib.Settings)]
    settings = settings_lib.Settings(**{name: section[name] for name in names})
    for name in ("image_size", "batch_size", "eval_batch_size", "num_threads"):
        if getattr(settings, name) < 1:
            raise ValueError(f"data.{name}: got {getattr(settings, name)}, want 1 or more.")
    for name, choices in {
        "placement": ("auto", "device", "host"),
        "resize": resize.RESIZES,
    }.items():
        if getattr(settings, name) not in choices:
            raise ValueError(
                f"data.{name}: got {getattr(settings, name)!r}, want one of {', '.join(choices)}."
            )
    return {name: value for name, value in section.items() if name not in names}, settings


def open_road(
    source: record.Source, settings: settings_lib.Settings, shardings: sharding.Shardings, name: str
) -> Road:
    """Opens the road that `settings.placement` names for one split.

    Args:
        source: the records.
        settings: how they become batches.
        shardings: where arrays live.
        name: of the split, for messages.

    Raises:
        ValueError: the split is empty.
    """
    if not len(source):
        raise ValueError(f"split {name!r}: got no images, want at least one.")
    on_device = settings.placement == "device" or (
        settings.placement == "auto" and resident.fits(len(source), settings.image_size)
    )
    road = resident if on_device else stream
    return Road(
        num_records=len(source),
        store=road.load_store(source, settings, shardings, name),
        take=road.take,
        items=road.make_items(source, settings, shardings),
    )
