"""Speed of a config on this machine: input alone, step alone, and both together as in training."""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections as mlc
from absl import logging

from jaxlung.benchmark import data, device_peaks, dry_run, loop, roofline, start_up, table, timing
from jaxlung.data.feed import pipeline
from jaxlung.parallel import distributed
from jaxlung.training import system as system_lib

PROFILED_DISPATCHES = 3


def run(config: mlc.ConfigDict, *, seconds: float = 10.0, profile_dir: str = "") -> dict[str, Any]:
    """Measures a config and writes a table to stdout.

    Args:
        config: the run. Its data are used if they are prepared; else generated ones of the same
            shapes, in memory. Nothing is downloaded.
        seconds: that each of the three is measured; more where five dispatches take longer.
        profile_dir: gets a trace of a few steps for TensorBoard or Perfetto; "" writes none.

    Returns:
        What `to_line` writes. Rates are per second over all devices, and again per device.

    Raises:
        ValueError: a setting that can't be.
    """
    clock = start_up.Clock()
    system = system_lib.make_system(config)
    source, what = data.open_source(config, system.settings)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    clock.lap("data")
    state = jax.block_until_ready(system.init_state())
    clock.lap("state")
    logging.info("compiling the training step")
    training = loop.Loop(system, feed, state, config.seed)
    clock.lap("compile")
    training.train(1)
    clock.lap("first_step")
    logging.info("measuring")
    rates = _rates(training, system, seconds)
    if profile_dir:
        with jax.profiler.trace(profile_dir):
            training.train(PROFILED_DISPATCHES)
    found = {
        "config": _describe(config, system, what, training),
        **rates,
        "start_up_seconds": clock.seconds | {"total": sum(clock.seconds.values())},
        "compiled_step_from_cache": training.from_cache,
        "parameters": dry_run.num_parameters(training.state),
        **roofline.find(training, rates, device_peaks.find(_device().device_kind), config.model),
        "memory": roofline.memory(_device(), training.compiled),
        "profile_dir": profile_dir,
    }
    if distributed.is_main():
        sys.stdout.write(table.make(found))
    return found


def to_line(found: dict[str, Any]) -> str:
    """What was found as one line of JSON."""
    return json.dumps(found)


def _device() -> jax.Device:
    return jax.local_devices()[0]


def _rates(training: loop.Loop, system: system_lib.System, seconds: float) -> dict[str, Any]:
    """Examples per second of each of the three, and how far training is behind the step alone."""
    passes = {"input": training.draw, "step": training.step, "training": training.train}
    times = timing.measure(passes, seconds, training.draw_stale if training.streams else None)
    examples = training.num_steps * system.settings.batch_size
    slower = [
        100 * (1 - step / train)
        for step, train in zip(times["step"], times["training"], strict=True)
    ]
    return {
        f"{name}_{_units(system)}_per_s": _spread([examples / each for each in dispatches])
        for name, dispatches in times.items()
    } | {
        "step_seconds": statistics.median(times["step"]) / training.num_steps,
        "training_seconds": statistics.median(times["training"]) / training.num_steps,
        "gap_percent": statistics.median(slower),
        "repeats": len(slower),
    }


def _units(system: system_lib.System) -> str:
    return "patches" if system.is_volumetric else "images"


def _spread(rates: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of some repeats, and the median of one device."""
    median = statistics.median(rates)
    return {
        "median": median,
        "min": min(rates),
        "max": max(rates),
        "per_device": median / jax.device_count(),
    }


def _describe(
    config: mlc.ConfigDict, system: system_lib.System, what: str, training: loop.Loop
) -> dict[str, Any]:
    return {
        "model": config.model_name,
        "units": _units(system),
        "batch_size": system.settings.batch_size,
        "input_shape": list(system.settings.input_shape),
        "dtype": config.model.dtype,
        "data": what,
        "placement": "host" if training.streams else "device",
        "steps_per_dispatch": training.num_steps,
        "microbatches": config.step.microbatches,
        "remat": config.step.remat,
        "device": _device().device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "jax": jax.__version__,
    }
