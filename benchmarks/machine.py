"""What a benchmark was measured on: device, number of them, versions, date."""

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
    """This machine, for `title` and `slug`; starts JAX, so it is asked in a process of its own.

    Returns:
        "platform" ("cpu", "gpu" or "tpu"), "device" (its name), "count" (devices, or of a CPU the
        cores that this process may use), "cores", "date" and "versions" by package.
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
    """The device as a heading: "2 CPU cores, Intel(R) Xeon(R)", "1 x NVIDIA H200"."""
    if machine["platform"] == "cpu":
        return f"{machine['count']} CPU cores, {machine['device']}"
    return f"{machine['count']} x {machine['device']}"


def slug(machine: Mapping[str, Any]) -> str:
    """The device in a file's name: "2-cpu-cores-intel-xeon"; equal for equal kinds and counts."""
    name = re.sub(r"\((r|tm)\)", "", title(machine).lower())
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")


def _cpu_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()
