"""The training step against the roofline of its device (Williams, Waterman and Patterson, 2009)."""

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
    """Returns the work of a step, and compares it with the peaks of the device if they are known.

    Args:
        training: the loop that was measured.
        rates: measured "step_seconds" and "training_seconds".
        peaks: peaks of the device; None if unknown.
        model: the config's `model` section, with the dtype of the computation.

    Returns:
        "flops_per_step" over all devices and "flops_per_device", as `flops.count` counts them;
        "xla_flops_per_device" and "bytes_per_device", as XLA counts them in the compiled program of
        one step. XLA's FLOPs leave out library calls on GPUs and count the body of a loop once. Its
        bytes are all operands and results of fused operations, even those that stay in a cache.
        "peak": None, or the result of `bound`.
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
    """Compares a step with the peaks of its device.

    Args:
        work: "flops_per_device" and "bytes_per_device" of a step.
        rates: measured "step_seconds" and "training_seconds" per step.
        peaks: peaks of the device.
        dtype: dtype of the computation.

    Returns:
        The peaks and their source; "step_share" and "training_share", the attained shares of the
        peak FLOP/s, in [0, 1]. If XLA counts bytes, also "flops_per_byte" of the step and the
        "ridge" of the device; "bound", which is "compute" above the ridge and "memory" below it;
        "least_seconds", the shortest time that the roofline allows for a step; and
        "roofline_share", that time over the measured one.
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
    """Returns the memory of one device: the most in use, or the compiler's plan if that is unknown.

    Returns:
        "bytes"; "how" they are known; "limit", the device's memory in bytes, or None.
    """
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        limit = stats.get("bytes_limit")
        return {"bytes": stats["peak_bytes_in_use"], "how": "most in use", "limit": limit}
    return {"bytes": dry_run.memory_bytes(compiled), "how": "planned", "limit": None}
