"""How near a step comes to what its device can do (Williams, Waterman and Patterson, 2009)."""

from collections.abc import Mapping
from typing import Any

import jax
import ml_collections as mlc

from jaxlung.benchmark import device_peaks, dry_run, loop


def find(
    training: loop.Loop,
    rates: Mapping[str, Any],
    peaks: device_peaks.Peaks | None,
    model: mlc.ConfigDict,
) -> dict[str, Any]:
    """Work of a step and, where the device's peaks are known, what they say of it.

    Args:
        training: that was measured.
        rates: its "step_seconds" and "training_seconds".
        peaks: of a device; None if unknown.
        model: with the dtype of the computation.

    Returns:
        "flops_per_step" over all devices and "flops_per_device", see `flops.count`;
        "xla_flops_per_device" and "bytes_per_device", what XLA counts in the compiled program of
        one step: its FLOPs leave out library calls on GPUs and repeats of loops' bodies, its bytes
        are all operands and results of fused operations, whether caches keep them or not.
        "peak": None, or see `bound`.
    """
    analysis = training.compile_one_step().cost_analysis() or {}
    work = {
        "flops_per_step": training.flops,
        "flops_per_device": training.flops / jax.device_count(),
        "flops_per_s_and_device": training.flops / jax.device_count() / rates["step_seconds"],
        "xla_flops_per_device": analysis.get("flops"),
        "bytes_per_device": analysis.get("bytes accessed"),
    }
    return work | {"peak": bound(work, rates, peaks, model.dtype) if peaks else None}


def bound(
    work: Mapping[str, Any], rates: Mapping[str, Any], peaks: device_peaks.Peaks, dtype: str
) -> dict[str, Any]:
    """A step against the peaks of its device.

    Args:
        work: "flops_per_device" and "bytes_per_device" of a step.
        rates: "step_seconds" and "training_seconds" of a step.
        peaks: of the device.
        dtype: of the computation.

    Returns:
        The peaks, with their source; "step_share" and "training_share" of the peak FLOP/s, [0, 1];
        and if XLA counts bytes, "bound", "compute" or "memory", by whether the step's FLOPs per
        byte are above the device's "ridge"; "least_seconds" a step can take by it, and
        "roofline_share", which part of the measured step that is.
    """
    flops_per_s = peaks.flops(dtype)
    compute_seconds = work["flops_per_device"] / flops_per_s
    found = {
        "flops_per_s": flops_per_s,
        "bytes_per_s": peaks.bandwidth,
        "source": peaks.source,
        "step_share": compute_seconds / rates["step_seconds"],
        "training_share": compute_seconds / rates["training_seconds"],
    }
    if not (work["bytes_per_device"] or 0) > 0:
        return found
    memory_seconds = work["bytes_per_device"] / peaks.bandwidth
    least = max(compute_seconds, memory_seconds)
    return found | {
        "flops_per_byte": work["flops_per_device"] / work["bytes_per_device"],
        "ridge": flops_per_s / peaks.bandwidth,
        "bound": "compute" if compute_seconds >= memory_seconds else "memory",
        "least_seconds": least,
        "roofline_share": least / rates["step_seconds"],
    }


def memory(device: jax.Device, compiled: jax.stages.Compiled) -> dict[str, Any]:
    """Memory of one device: the most that was in use, or where it doesn't tell, as planned.

    Returns:
        "bytes", "how" they are known, and "limit" in bytes or None.
    """
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        limit = stats.get("bytes_limit")
        return {"bytes": stats["peak_bytes_in_use"], "how": "most in use", "limit": limit}
    return {"bytes": dry_run.memory_bytes(compiled), "how": "planned", "limit": None}
