"""The mesh and one sharding per kind of array; the only file that names the axes."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"  # splits the batch
SPACE = "space"  # splits the rows of an image, or of every slice of a volume
# Matches JAX's messages about a missing backend, not those about a process that doesn't answer.
_NO_DEVICE = re.compile(r"Unable to initialize backend (?!.*(DEADLINE|UNAVAIL))|Unknown backend")


@dataclasses.dataclass(frozen=True)
class Shardings:
    """The places of arrays on the devices of a run.

    Attributes:
        replicated: for parameters, statistics, resident data and scalars; whole on every device.
        batch: [B, ...], split over `data`.
        steps: [K, B, ...], batches of several steps, each split over `data`.
        images: [B, H, ...], split over `data` and `space`.
        volumes: [B, D, H, ...], split over `data` and, along the rows, over `space`: there are few
            slices, and a halo of rows is smaller than one of slices.
    """

    replicated: NamedSharding
    batch: NamedSharding
    steps: NamedSharding
    images: NamedSharding
    volumes: NamedSharding

    @property
    def mesh(self) -> Mesh:
        """All devices."""
        mesh = self.replicated.mesh
        assert isinstance(mesh, Mesh)  # As `make_shardings` made it.
        return mesh

    @property
    def platform(self) -> str:
        """See `platform_of`."""
        return platform_of(self.replicated)

    @property
    def are_described(self) -> bool:
        """True if programs can be compiled for the devices, but not run: they aren't here."""
        return self.mesh.devices.flat[0] not in visible_devices()

    @property
    def num_batch_shards(self) -> int:
        """Number of parts that a batch is split into."""
        return self.batch.mesh.shape[DATA]

    @property
    def num_space_shards(self) -> int:
        """Number of parts that the rows of an image are split into."""
        return self.batch.mesh.shape[SPACE]


def make_shardings(
    *, data: int, space: int, devices: Sequence[jax.Device] | None = None
) -> Shardings:
    """Lays all devices out as a mesh of `data` x `space`.

    Args:
        data: number of parts of a batch; -1 uses all devices that `space` leaves.
        space: number of parts of the rows of an image or slice; 1 keeps every image whole.
        devices: the devices; None for all that JAX sees. They may be described ones, which are not
            here (`jax.experimental.topologies`).

    Raises:
        ValueError: the product is not the number of devices.
    """
    devices = visible_devices() if devices is None else list(devices)
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
        steps=NamedSharding(mesh, PartitionSpec(None, DATA)),
        images=NamedSharding(mesh, PartitionSpec(DATA, SPACE)),
        volumes=NamedSharding(mesh, PartitionSpec(DATA, None, SPACE)),
    )


def platform_of(where: NamedSharding) -> str:
    """Returns the kind of the devices: "cpu", "gpu" or "tpu"."""
    device: Any = next(iter(where.device_set))
    return str(device.platform)


def visible_devices() -> list[jax.Device]:
    """Returns all devices of all processes.

    Raises:
        ValueError: JAX is told to use a kind of device that this machine doesn't have.
        RuntimeError: JAX can't start for another reason.
    """
    try:
        return jax.devices()
    except AssertionError as error:  # It says no more where a plug-in is not installed.
        raise _no_such_device("its plug-in is not installed") from error
    except RuntimeError as error:
        if not _NO_DEVICE.match(str(error)):
            raise
        raise _no_such_device(str(error).partition(" (set JAX")[0]) from error


def share_out(count: int) -> list[list[jax.Device]]:
    """Divides all devices into groups of equal size, on which networks predict side by side.

    There are as many groups as divide both the networks and the devices. So every device has the
    same work, batches are cut into the fewest parts, and the fewest weights lie on a device.

    Args:
        count: number of networks, 1 or more; network i belongs on group i modulo their number.
    """
    devices = visible_devices()
    size = len(devices) // math.gcd(count, len(devices))
    return [devices[start : start + size] for start in range(0, len(devices), size)]


def leave_accelerators() -> None:
    """Makes JAX use the CPU alone; call it before anything else of JAX."""
    jax.config.update("jax_platforms", "cpu")


def _no_such_device(reason: str) -> ValueError:
    wanted = jax.config.values["jax_platforms"]
    told = f"JAX_PLATFORMS: got {wanted!r}, and" if wanted else "JAX_PLATFORM_NAME:"
    return ValueError(
        f"{told} JAX finds no such device here ({reason}); unset it and JAX chooses, or install "
        "JAX for that device: pip install 'jaxlung[cuda]' or 'jaxlung[tpu]'."
    )


def require_divisible(batch_size: int, shards: Shardings, field: str) -> None:
    """Raises ValueError if a batch can't be split evenly over the devices."""
    if batch_size < 1 or batch_size % shards.num_batch_shards:
        raise ValueError(
            f"{field}: got {batch_size}, want a multiple of the "
            f"{shards.num_batch_shards} device(s) that share a batch."
        )


def put(arrays: Any, where: NamedSharding) -> Any:
    """Sends host arrays to their devices, without waiting; each process sends its own part."""
    if jax.process_count() == 1:
        return jax.device_put(arrays, where)
    # device_put would first compare the arrays of all processes, which takes a broadcast.
    with jax.transfer_guard_host_to_device("allow"):  # JAX calls it implicit, but it is meant.
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, where, lambda index: x[index]), arrays
        )


def local_rows(batch_size: int, shards: Shardings) -> np.ndarray:
    """Returns the rows of a batch that the devices of this process hold, ascending."""
    parts = shards.batch.addressable_devices_indices_map((batch_size,)).values()
    rows = [np.arange(batch_size)[index] for index in parts if index is not None]
    return np.unique(np.concatenate(rows))


def put_rows(
    arrays: dict[str, np.ndarray], batch_size: int, shards: Shardings
) -> dict[str, jax.Array]:
    """Sends the rows of batches that this process holds to its devices, without waiting.

    Args:
        arrays: [K, R, ...], rows of the batches of K steps; R rows as `local_rows` names them.
        batch_size: B, number of rows over all processes.
        shards: where arrays live.

    Returns:
        [K, B, ...].
    """
    # JAX counts the transfer as implicit, but it is meant.
    with jax.transfer_guard_host_to_device("allow"):
        return {
            name: jax.make_array_from_process_local_data(
                shards.steps, x, (len(x), batch_size, *x.shape[2:])
            )
            for name, x in arrays.items()
        }
