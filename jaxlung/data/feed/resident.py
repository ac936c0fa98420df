"""The feed that keeps a whole split on the device as uint8; a batch is a gather inside jit."""

import concurrent.futures
import math
import os
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import example, order
from jaxlung.data.feed import feed as feed_lib
from jaxlung.host import progress
from jaxlung.parallel import sharding

# Share of the device's memory; the rest is for parameters and activations (our choice).
LARGEST_SHARE = 0.25
_PIXEL_BYTES = 4  # The network sees float32.


def fits(num_bytes: int) -> bool:
    """Tells whether data of this size take at most `LARGEST_SHARE` of a device's memory."""
    return num_bytes <= LARGEST_SHARE * _device_memory()


def require_memory(settings: settings_lib.Settings, num_devices: int) -> None:
    """Raises ValueError if the images of a batch alone are more than a device's memory.

    This does not promise that a network fits. It refuses a size that is far too large before
    anything of that size is made.
    """
    field = "patch_size" if isinstance(settings, settings_lib.PatchSettings) else "image_size"
    size, memory = math.prod(settings.input_shape), _device_memory()
    for batch_field in ("batch_size", "eval_batch_size"):
        batch_size = getattr(settings, batch_field)
        num_bytes = _PIXEL_BYTES * size * batch_size // num_devices
        if num_bytes > memory:
            raise ValueError(
                f"data.{field}: got {getattr(settings, field)}, with which the images of a batch "
                f"(data.{batch_field}={batch_size}) take {num_bytes:,} bytes on each device, want "
                f"at most its {memory:,.0f}."
            )


def _device_memory() -> float:
    """Returns the bytes of memory of a device; CPUs, which report none, share the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", _host_memory() / jax.local_device_count())


def _host_memory() -> int:
    """Returns the bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def load_store(
    source: record.Source[record.Record],
    settings: settings_lib.ImageSettings,
    shardings: sharding.Shardings,
    name: str,
) -> dict[str, jax.Array]:
    """Reads all records and puts them on every device.

    Returns:
        "images" and "masks" [N, S, S], "labels" [N], uint8, replicated; N is the number of records,
        rounded up by `feed.rounded`. What no record fills is 0.
    """
    store = {
        name: np.zeros((feed_lib.rounded(len(source)), *spec.shape), spec.dtype)
        for name, spec in example.specs(settings).items()
    }

    def load(index: int) -> None:
        for name, array in example.make(source[index], settings).items():
            store[name][index] = array

    with concurrent.futures.ThreadPoolExecutor(settings.num_threads) as pool:
        loads = pool.map(load, range(len(source)))
        for _ in progress.report(loads, f"reading {name}", "images", len(source)):
            pass
    return sharding.put(store, shardings.replicated)


def take(store: dict[str, jax.Array], indices: jax.Array) -> dict[str, jax.Array]:
    """Returns the batch at `indices` [B] int32; runs inside jit."""
    return {name: array[indices] for name, array in store.items()}


def item_specs(settings: settings_lib.Settings) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of what an item holds for one example: its index."""
    del settings
    return jax.ShapeDtypeStruct((), np.int32)


def make_items(
    source: record.Source[record.Record],
    settings: settings_lib.ImageSettings,
    shardings: sharding.Shardings,
) -> feed_lib.MakeItems:
    """Returns a maker of items, which are record indices, [K, B] int32."""
    del source, settings  # The records are on the device already.

    def items(
        record_at: order.Order, batch_size: int, dispatches: Iterable[range]
    ) -> Iterator[jax.Array]:
        for steps in dispatches:
            positions = order.positions(steps, batch_size)
            indices = np.array([record_at(position) for position in positions.flat], np.int32)
            yield sharding.put(indices.reshape(positions.shape), shardings.steps)

    return items
