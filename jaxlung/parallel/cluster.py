"""How the processes of a run find each other: by flags, or from what started them."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where the processes of a run meet; None lets JAX ask the machine (Slurm, MPI, Cloud TPU).

    Attributes:
        coordinator: "host:port" of process 0.
        num_processes: of the run.
        process_id: of this process, from 0.
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
    """The cluster that the flags name or, without any, the one that the environment tells of.

    That is JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, Slurm (a task of
    `srun`), Open MPI, or the hosts of a Cloud TPU slice.

    Args:
        environ: the environment.
        coordinator: flag.
        num_processes: flag.
        process_id: flag.

    Returns:
        None for a process of its own.

    Raises:
        ValueError: some of three settings that belong together are missing, or can't be.
    """
    flags = (coordinator, num_processes, process_id)
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
