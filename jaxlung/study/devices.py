"""The devices of this machine, found without starting JAX, and shared out to runs.

A run gets its own devices by environment variables that are read when JAX starts in its process.
"""

import dataclasses
import glob
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

import ml_collections as mlc

from jaxlung.host import folder_lock

GPU, TPU, CPU = "gpu", "tpu", "cpu"
PLATFORMS = {"cuda": GPU, "gpu": GPU, "tpu": TPU, "cpu": CPU}  # of JAX_PLATFORMS
RUNS_AT_ONCE_ON_CPUS = 1  # More need more memory and save little; docs/scaling.md has the times.
COUNT_FLAG = "--xla_force_host_platform_device_count"
GOOGLE = "0x1ae0"  # PCI vendor
# PCI devices that are TPU chips, as in JAX's `hardware_utils`.
TPU_CHIPS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
# Chips of a process -> how they lie, as in JAX's `test_multiprocess`.
CHIP_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
FIRST_TPU_PORT = 8476


@dataclasses.dataclass(frozen=True)
class Place:
    """The devices of one run.

    Attributes:
        name: Their name, as "GPU 3" or "cores 0, 1".
        ids: Their ids in the pool.
        environ: Environment variables of the run's process.
        cores: Cores of the run's process; () for all.
        locks: Locked files that keep other commands on this machine from the devices. The run's
            process inherits and holds them.
    """

    name: str
    ids: tuple[str, ...]
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cores: tuple[int, ...] = ()
    locks: tuple[IO[str], ...] = ()

    def let_go(self) -> None:
        """Closes the locked files in this process."""
        for lock in self.locks:
            lock.close()


class Pool:
    """The devices of a machine, of which each run takes some.

    Args:
        kind: GPU, TPU or CPU.
        ids: Ids of GPUs or TPU chips; on CPUs one for each run that may run at once.
        per_run: Devices of a run whose mesh takes any number; on CPUs they are simulated, and None
            leaves their number to XLA_FLAGS.
        at_once: Most runs at once; None for as many as there are devices for.
        cores: Cores that runs on CPUs share.
        uuids: Id -> UUID of GPUs, for their locks.
        environ: Environment variables of this process.
    """

    def __init__(
        self,
        kind: str,
        ids: Sequence[str],
        per_run: int | None = None,
        at_once: int | None = None,
        cores: Sequence[int] = (),
        uuids: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.kind = kind
        self._free = list(ids)
        self._ids = tuple(ids)
        self._per_run = per_run
        self._at_once = at_once or len(ids)
        self._num_taken = 0
        self._cores = tuple(cores)
        self._uuids = uuids or {}
        self._environ = environ

    def count(self, config: mlc.ConfigDict) -> int:
        """Returns how many devices a run has: those of its mesh, or `per_run` if it takes any."""
        data, space = config.mesh.data, config.mesh.space
        if data > 0:
            return max(data * space, 1)
        return -(-(self._per_run or 1) // max(space, 1)) * max(space, 1)

    def require_fit(self, name: str, config: mlc.ConfigDict) -> None:
        """Raises ValueError if a run needs more devices than are here, or can't share its batch."""
        want = self.count(config)
        if self.kind != CPU and want > len(self._ids):
            raise ValueError(
                f"run {name}: got {want} devices by --devices_per_run and config.mesh (data="
                f"{config.mesh.data}, space={config.mesh.space}), want at most the "
                f"{len(self._ids)} {self.kind.upper()}s that are here."
            )
        if self.kind == TPU:
            _require_rectangle(f"run {name}", want)
        shards = want // max(config.mesh.space, 1)
        for field in ("batch_size", "eval_batch_size"):
            if (size := config.data.get(field, shards)) % shards:
                raise ValueError(
                    f"run {name}: data.{field}: got {size}, want a multiple of the {shards} "
                    "devices that share a batch."
                )

    def take(self, config: mlc.ConfigDict) -> Place | None:
        """Takes devices for a run; None if too few are free."""
        count = self.count(config)
        if self._num_taken >= self._at_once:
            return None
        locks = self._lock_free()
        ids = self._choose(1 if self.kind == CPU else count, list(locks))
        for other in locks.keys() - set(ids):
            if lock := locks.pop(other):
                lock.close()
        if not ids:
            return None
        self._num_taken += 1
        self._free = [x for x in self._free if x not in ids]
        if self.kind == GPU:
            held = tuple(lock for lock in locks.values() if lock)
            return dataclasses.replace(_gpus(ids, self._environ), locks=held)
        return _chips(ids) if self.kind == TPU else self._share(ids, count)

    def _lock_free(self) -> dict[str, IO[str] | None]:
        """Locks the free devices that no other command holds; None for one that has no lock."""
        locks: dict[str, IO[str] | None] = {}
        for name in self._free:
            try:
                locks[name] = _lock(self._uuids[name]) if name in self._uuids else None
            except BlockingIOError:
                continue
        return locks

    def _choose(self, count: int, free: Sequence[str]) -> tuple[str, ...]:
        """Returns free devices, of which TPU chips lie side by side; () if too few are free."""
        if self.kind != TPU:
            return tuple(free[:count]) if len(free) >= count else ()
        groups = [self._ids[x : x + count] for x in range(0, len(self._ids), count)]
        return next((x for x in groups if len(x) == count and set(x) <= set(free)), ())

    def give_back(self, place: Place) -> None:
        """Gives back what `take` returned."""
        place.let_go()
        self._num_taken -= 1
        self._free = sorted([*self._free, *place.ids], key=self._ids.index)

    def _share(self, ids: tuple[str, ...], count: int) -> Place:
        """Returns a share of the cores, with simulated devices if more than one is wanted."""
        number, size = int(ids[0]), len(self._cores) // self._at_once
        cores = self._cores[number * size : (number + 1) * size] if self._at_once > 1 else ()
        environ = {}
        if self._per_run or count > 1:
            flags = (self._environ.get("XLA_FLAGS", ""), f"{COUNT_FLAG}={count}")
            environ["XLA_FLAGS"] = " ".join(filter(None, flags))  # XLA takes the last of two.
        name = f"cores {', '.join(map(str, cores))}" if cores else "the CPU"
        return Place(name, ids, environ, cores)


def _lock(uuid: str) -> IO[str] | None:
    """Locks a GPU of this machine, until the file is closed; returns None where that can't be done.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        file = open(f"{tempfile.gettempdir()}/jaxlung-{uuid}.lock", "a")  # noqa: SIM115
    except OSError:  # It is another user's.
        return None
    if folder_lock.try_lock(file):
        return file
    file.close()
    raise BlockingIOError


def _require_rectangle(what: str, num_chips: int) -> None:
    """Raises ValueError if so many TPU chips of a host can't be a TPU of their own."""
    if num_chips not in CHIP_BOUNDS:
        choices = ", ".join(map(str, CHIP_BOUNDS))
        raise ValueError(f"{what}: got {num_chips}, want one of {choices} TPU chips.")


def _gpus(ids: tuple[str, ...], environ: Mapping[str, str]) -> Place:
    made = {"CUDA_VISIBLE_DEVICES": ",".join(ids)}
    if "CUDA_VISIBLE_DEVICES" not in environ:
        made["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # The order of `nvidia-smi`.
    return Place(f"GPU {', '.join(ids)}", ids, made)


def _chips(ids: tuple[str, ...]) -> Place:
    """Returns some chips of a TPU host, as a TPU of its own that knows of no other process."""
    port = str(FIRST_TPU_PORT + int(ids[0]))
    environ = {
        "TPU_VISIBLE_CHIPS": ",".join(ids),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": CHIP_BOUNDS[len(ids)],
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_ADDRESSES": f"localhost:{port}",
        "TPU_PROCESS_PORT": port,
        "CLOUD_TPU_TASK_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    return Place(f"TPU chip {', '.join(ids)}", ids, environ)


def find(
    environ: Mapping[str, str],
    devices_per_run: int | None = None,
    at_once: int | None = None,
) -> Pool:
    """Returns the devices that runs may use: GPUs, else TPU chips, else the cores of the CPU.

    JAX_PLATFORMS chooses among them. CUDA_VISIBLE_DEVICES and TPU_VISIBLE_CHIPS leave some out.

    Args:
        environ: Environment variables.
        devices_per_run: Devices of a run whose config names no number; None for 1.
        at_once: Most runs at once; None for as many as there are GPUs or chips, and
            `RUNS_AT_ONCE_ON_CPUS` on CPUs.

    Raises:
        ValueError: JAX_PLATFORMS names devices that aren't here, or a number can't be.
    """
    wanted = environ.get("JAX_PLATFORMS", "").split(",")[0]
    platform = PLATFORMS.get(wanted)
    if platform in (None, GPU) and (gpus := find_gpus(environ)):
        uuids = {name: uuid for name, uuid in gpus.items() if uuid}
        return Pool(GPU, list(gpus), devices_per_run, at_once, uuids=uuids, environ=environ)
    if platform in (None, TPU) and (chips := find_chips(environ)):
        _require_rectangle("--devices_per_run", devices_per_run or 1)
        return Pool(TPU, chips, devices_per_run, at_once, environ=environ)
    if platform in (GPU, TPU):
        raise ValueError(f"JAX_PLATFORMS: got {wanted!r}, and no such device was found here.")
    cores = find_cores()
    at_once = at_once or RUNS_AT_ONCE_ON_CPUS
    if at_once > len(cores):
        raise ValueError(f"--at_once: got {at_once}, want at most {len(cores)}, the CPU's cores.")
    ids = [str(number) for number in range(at_once)]
    return Pool(CPU, ids, devices_per_run, at_once, cores, environ=environ)


def find_gpus(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns id -> UUID, "" if unknown, of the NVIDIA GPUs that JAX can use; starts no CUDA."""
    plugins = {entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")}
    if not any("cuda" in name for name in plugins):
        return {}
    if shutil.which("nvidia-smi") is None:
        found = {str(number): "" for number in range(len(glob.glob("/dev/nvidia[0-9]*")))}
    else:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        found = dict(re.findall(r"^GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)", done.stdout, re.MULTILINE))
    if "CUDA_VISIBLE_DEVICES" not in environ:
        return found
    ids = [part.strip() for part in environ["CUDA_VISIBLE_DEVICES"].split(",")]
    if ids[0] in ("", "-1", "NoDevFiles"):
        return {}
    return {name: name if name in found.values() else found.get(name, "") for name in ids}


def find_chips(environ: Mapping[str, str]) -> list[str]:
    """Returns ids of the TPU chips of this host, without starting them; [] if none."""
    if importlib.util.find_spec("libtpu") is None:
        return []
    if environ.get("TPU_VISIBLE_CHIPS"):
        return environ["TPU_VISIBLE_CHIPS"].split(",")
    chips = [
        folder
        for folder in glob.glob("/sys/bus/pci/devices/*")
        if _read(f"{folder}/vendor") == GOOGLE and _read(f"{folder}/device") in TPU_CHIPS
    ]
    return [str(number) for number in range(len(chips))]


def find_cores() -> list[int]:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(file: str) -> str:
    with open(file) as content:
        return content.read().strip()
