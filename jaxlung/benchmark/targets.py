"""Devices that are not here, described so that programs can be compiled for them.

JAX compiles for a description as it does for a device. Only the compiler of that kind of device
must be installed.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import topologies

from jaxlung.benchmark import device_peaks

GPUS = {  # target -> row of `device_peaks.PEAKS`
    "a100": "A100 SXM4 80GB",
    "h100": "H100 80GB HBM3",
    "h200": "H200",
}
TPUS = ("v5e", "v5p", "v6e", "tpu7x")
CHOICES = f"{', '.join(GPUS)}, several as h200:8, or {', '.join(TPUS)} as v5e:2x2, v5p:2x2x1"
GPUS_PER_HOST = 8
# The share of a GPU's memory that JAX takes, unless XLA_PYTHON_CLIENT_MEM_FRACTION is set.
GPU_SHARE = 0.75
# Autotuning would run kernels on the device.
GPU_OPTIONS = {"xla_gpu_autotune_level": 0}
# Tells libtpu that no chip is used: other processes may load it too, and it asks no server where it
# runs. Any type of machine serves; the topology alone counts.
LIBTPU_ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
        name: as given, such as "h200:8".
        devices: what JAX compiles for.
        peaks: the data sheet of one of them.
        options: options of XLA that compiling without the device needs.
    """

    name: str
    devices: tuple[jax.Device, ...]
    peaks: device_peaks.Peaks
    options: Mapping[str, Any]

    @property
    def usable_memory(self) -> float:
        """Bytes of one device's memory that JAX uses."""
        return self.peaks.memory * (GPU_SHARE if self.devices[0].platform == "gpu" else 1)


def describe(name: str) -> Target:
    """Describes devices.

    Args:
        name: such as "h200", "h200:8" or "v5e:2x2".

    Raises:
        ValueError: no such target, or its compiler is not installed.
    """
    kind, _, size = name.partition(":")
    if kind in GPUS:
        if not re.fullmatch(r"|[1-9]\d*", size):
            raise ValueError(f"--target: got {name!r}, want a number of devices, as {kind}:8.")
        return _describe_gpus(name, kind, int(size or 1))
    if kind in TPUS:
        if not re.fullmatch(r"\d+(x\d+){1,2}", size):
            example = "2x2x1" if kind == "v5p" else "2x2"
            raise ValueError(f"--target: got {name!r}, want a topology, as {kind}:{example}.")
        return _describe_tpus(name)
    raise ValueError(f"--target: got {name!r}, want one of {CHOICES}.")


def _describe_gpus(name: str, kind: str, count: int) -> Target:
    hosts, rest = divmod(count, GPUS_PER_HOST)
    if hosts and rest:
        raise ValueError(
            f"--target: got {name!r}, want at most {GPUS_PER_HOST} devices or a multiple of them."
        )
    peaks = device_peaks.PEAKS[GPUS[kind]]
    try:
        described = topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            target_config=_gpu_text(GPUS[kind], peaks),
            # Partitions x hosts x devices of a host.
            topology=f"1x{hosts or 1}x{GPUS_PER_HOST if hosts else count}",
        )
    except NotImplementedError as error:
        raise _not_installed(name, "NVIDIA GPUs", "target-cuda") from error
    return Target(name, tuple(described.devices), peaks, GPU_OPTIONS)


def _describe_tpus(name: str) -> Target:
    os.environ |= LIBTPU_ALONE
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except jax.errors.JaxRuntimeError as error:  # Before RuntimeError, of which it is one.
        said = str(error).splitlines()[0]
        raise ValueError(
            f"--target: got {name!r}; libtpu knows no such topology: {said}"
        ) from error
    except RuntimeError as error:
        raise _not_installed(name, "TPUs", "target-tpu") from error
    devices: tuple[Any, ...] = tuple(described.devices)
    peaks = device_peaks.find(devices[0].device_kind)
    assert peaks is not None  # All of `TPUS` are in the table.
    return Target(name, devices, peaks, {})


def _not_installed(name: str, kind: str, extra: str) -> ValueError:
    return ValueError(
        f"--target: got {name!r}, but JAX's compiler for {kind} is not installed: "
        f"pip install 'jaxlung[{extra}]'. It needs no such device."
    )


def _gpu_text(row: str, peaks: device_peaks.Peaks) -> str:
    """Returns XLA's description of a GPU, a GpuTargetConfigProto as text."""
    chip = peaks.chip
    assert chip is not None
    major, minor = chip.compute_capability
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024
          threads_per_warp: 32
          threads_per_core_limit: 2048
          registers_per_core_limit: 65536
          registers_per_block_limit: 65536
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: {chip.shared_memory - 1024}
          shared_memory_per_core: {chip.shared_memory}
          core_count: {chip.num_cores}
          fpus_per_core: {chip.fpus_per_core}
          clock_rate_ghz: {chip.clock_ghz}
          l2_cache_size: {chip.l2_cache}
          memory_bandwidth: {peaks.bandwidth:.0f}
          device_memory_size: {peaks.memory:.0f}
          cuda_compute_capability {{ major: {major} minor: {minor} }}
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
        device_description_str: "NVIDIA {row}"
    """
