"""The machine of a benchmark: devices, versions of packages, date."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax")


def describe() -> dict[str, Any]:
    """Returns a description of this machine; starts JAX, so call it in a process of its own.

    Returns:
        "platform" ("cpu", "gpu" or "tpu"), "device" (its name), "count" (number of devices; on a
        CPU, of cores that this process may use), "cores", "date" and "versions" of packages.
    """
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_cpu = device.platform == "cpu"
    return {
        "platform": device.platform,
        "device": _cpu_name() if is_cpu else device.device_kind,
        "count": cores if is_cpu else jax.device_count(),
        "cores": cores,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def title(machine: Mapping[str, Any]) -> str:
    """Returns a heading, such as "2 CPU cores, Intel(R) Xeon(R)" or "1 x NVIDIA H200"."""
    if machine["platform"] == "cpu":
        return f"{machine['count']} CPU cores, {machine['device']}"
    return f"{machine['count']} x {machine['device']}"


def slug(machine: Mapping[str, Any]) -> str:
    """Returns a name for files of this kind and count of devices: "2-cpu-cores-intel-xeon"."""
    name = re.sub(r"\((r|tm)\)", "", title(machine).lower())
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")


def _cpu_name() -> str:
    """Returns the name of the processor if Linux tells it, otherwise its architecture."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()
