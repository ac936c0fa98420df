"""Names the machine and the devices of a process, for those who watch several."""

import itertools
import os
import socket
from collections.abc import Iterable, Mapping

import jax

# Platform -> variables that choose the devices which a process sees.
_VISIBLE = {
    "gpu": ("CUDA_VISIBLE_DEVICES",),
    "tpu": ("TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES"),
}


def describe(environ: Mapping[str, str]) -> str:
    """Returns "node3, gpu 0-1", "node3, cpu 4-7" or, for all cores of a machine, "node3, cpu".

    Args:
        environ: Variables of the environment.
    """
    platform = jax.devices()[0].platform
    chosen = next(filter(None, map(environ.get, _VISIBLE.get(platform, ()))), "")
    if platform == "cpu":
        numbers = join_ranges(_cores())
    else:
        numbers = chosen or join_ranges(device.id for device in jax.local_devices())
    machine = socket.gethostname().partition(".")[0]
    more = f" and {jax.process_count() - 1} more processes" if jax.process_count() > 1 else ""
    return f"{machine}, {platform} {numbers}".rstrip() + more


def _cores() -> set[int]:
    """Returns the cores that this process may use; none if it may use all, or can't know."""
    if not hasattr(os, "sched_getaffinity"):  # On macOS.
        return set()
    cores = os.sched_getaffinity(0)
    return cores if len(cores) < (os.cpu_count() or 0) else set()


def join_ranges(numbers: Iterable[int]) -> str:
    """Returns numbers as text, such as "0-3,7"."""
    runs = itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{x[0]}-{x[-1]}" if len(x) > 1 else str(x[0]) for x in ends)
