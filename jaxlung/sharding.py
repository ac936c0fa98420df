"""The mesh and one sharding per kind of array; the only file that names the axes."""

import dataclasses

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

DATA = "data"  # splits the batch
SPACE = "space"  # splits the rows of an image (the slices of a volume)


@dataclasses.dataclass(frozen=True)
class Shardings:
    """Where arrays live.

    Attributes:
        replicated: whole on every device: parameters, statistics, resident data, scalars.
        batch: [B, ...], split over `data`.
        images: [B, H, ...], split over `data` and `space`.
    """

    replicated: NamedSharding
    batch: NamedSharding
    images: NamedSharding

    @property
    def num_batch_shards(self) -> int:
        """Number of parts that a batch is split into."""
        return self.batch.mesh.shape[DATA]

    @property
    def num_space_shards(self) -> int:
        """Number of parts that the rows of an image are split into."""
        return self.batch.mesh.shape[SPACE]


def make_shardings(*, data: int, space: int) -> Shardings:
    """Lays all devices out as a mesh of `data` x `space`.

    Args:
        data: parts of a batch; -1 takes all devices that `space` leaves.
        space: parts of an image's rows; 1 keeps every image whole.

    Raises:
        ValueError: the product is not the number of devices.
    """
    devices = visible_devices()
    num_devices = len(devices)
    if space < 1 or data == 0 or data < -1:
        raise ValueError(
            f"mesh: got data={data}, space={space}; want space of 1 or more and data of 1 or more, "
            "or data=-1 for all devices that are left."
        )
    if data == -1:
        data = max(1, num_devices // space)
    if data * space != num_devices:
        raise ValueError(
            f"mesh: got data={data} x space={space} = {data * space}, "
            f"want the number of devices, {num_devices}."
        )
    mesh = jax.make_mesh(
        (data, space), (DATA, SPACE), axis_types=(AxisType.Auto,) * 2, devices=devices
    )
    return Shardings(
        replicated=NamedSharding(mesh, PartitionSpec()),
        batch=NamedSharding(mesh, PartitionSpec(DATA)),
        images=NamedSharding(mesh, PartitionSpec(DATA, SPACE)),
    )


def visible_devices() -> list[jax.Device]:
    """All devices of all processes."""
    return jax.devices()


def require_divisible(batch_size: int, shards: Shardings, field: str) -> None:
    """Raises ValueError if a batch can't be split evenly over the devices."""
    if batch_size < 1 or batch_size % shards.num_batch_shards:
        raise ValueError(
            f"{field}: got {batch_size}, want a multiple of the "
            f"{shards.num_batch_shards} device(s) that share a batch."
        )


def put(arrays: dict[str, np.ndarray], where: NamedSharding) -> dict[str, jax.Array]:
    """Sends host arrays to their devices, without waiting."""
    return jax.device_put(arrays, where)
