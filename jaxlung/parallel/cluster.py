"""Finds where the processes of a run meet, from flags or from what started them."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The meeting point of a run's processes.

    Fields that are None are left to JAX, which asks the machine (Slurm, MPI, Cloud TPU).

    Attributes:
        coordinator: "host:port" of process 0.
        num_processes: number of processes of the run.
        process_id: number of this process, from 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def find(
    environ: Mapping[str, str],
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Cluster | None:
    """Returns the cluster that the flags name or, without flags, the one in the environment.

    The environment may name it in JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID,
    or show that this is a task of Slurm (`srun`) or Open MPI, or a host of a Cloud TPU slice.

    Args:
        environ: environment variables.
        coordinator: value of the flag `--coordinator`.
        num_processes: value of the flag `--num_processes`.
        process_id: value of the flag `--process_id`.

    Returns:
        None if this process runs alone.

    Raises:
        ValueError: some of the three settings are missing, or their values can't be used.
    """
    flags: tuple[Any, ...] = (coordinator, num_processes, process_id)
    names = ("--coordinator", "--num_processes", "--process_id")
    if all(value is None for value in flags) and "JAX_COORDINATOR_ADDRESS" in environ:
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        flags = (environ[names[0]], *(_to_int(name, environ.get(name)) for name in names[1:]))
    if any(value is not None for value in flags):
        _require_cluster(dict(zip(names, flags, strict=True)))
        return Cluster(*flags)
    sizes = (environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    hosts = environ.get("TPU_WORKER_HOSTNAMES", "")
    return Cluster() if "," in hosts or any(size != "1" for size in sizes) else None


def _to_int(name: str, text: str | None) -> int | None:
    if text is not None and not text.isdecimal():
        raise ValueError(f"{name}: got {text!r}, want a whole number.")
    return None if text is None else int(text)


def _require_cluster(values: dict[str, Any]) -> None:
    missing = [name for name, value in values.items() if value is None]
    if missing:
        given = [name for name, value in values.items() if value is not None]
        raise ValueError(f"{', '.join(given)}: want {' and '.join(missing)} too.")
    (where, coordinator), (count, num_processes), (which, process_id) = values.items()
    if num_processes < 1:
        raise ValueError(f"{count}: got {num_processes}, want 1 or more.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{where}: got {coordinator!r}, want HOST:PORT of process 0.")
    if not 0 <= process_id < num_processes:
        raise ValueError(f"{which}: got {process_id}, want 0 to {num_processes - 1}.")
