"""The speed of a config on this machine: input alone, the step alone, and both as in training."""

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
    """Measures a config, writes a table to stdout and returns the numbers.

    Args:
        config: the run. Its data are used if they are prepared. Otherwise records of the same shape
            are generated in memory. Nothing is downloaded.
        seconds: time to spend on each of the three measurements. They take longer if five
            dispatches do.
        profile_dir: folder for a trace of a few steps, for TensorBoard or Perfetto; "": no trace.

    Returns:
        All numbers, ready for JSON. Rates are per second, over all devices and per device.

    Raises:
        ValueError: the config has an impossible setting.
    """
    clock = start_up.Clock()
    system = system_lib.make_system(config)
    source, data_words = data.open_source(config, system.settings)
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
        "config": _describe(config, system, data_words, training),
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


def _device() -> jax.Device:
    return jax.local_devices()[0]


def _rates(training: loop.Loop, system: system_lib.System, seconds: float) -> dict[str, Any]:
    """Returns examples per second of each pass, and the gap between training and step."""
    passes = {"input": training.draw, "step": training.step, "training": training.train}
    times = timing.measure(passes, seconds, training.draw_stale if training.streams else None)
    examples = training.num_steps * system.settings.batch_size
    slower = [
        100 * (1 - step / train)
        for step, train in zip(times["step"], times["training"], strict=True)
    ]
    rates = {name: _spread([examples / each for each in all_of]) for name, all_of in times.items()}
    batch_size = system.settings.batch_size
    return {f"{name}_{_units(system)}_per_s": spread for name, spread in rates.items()} | {
        # From the median rate: the median time of an even number of repeats is another number.
        "step_seconds": batch_size / rates["step"]["median"],
        "training_seconds": batch_size / rates["training"]["median"],
        "gap_percent": statistics.median(slower),
        "repeats": len(slower),
    }


def _units(system: system_lib.System) -> str:
    return "patches" if system.is_volumetric else "images"


def _spread(rates: Sequence[float]) -> dict[str, float]:
    """Returns the median, minimum and maximum of repeats, and the median per device."""
    median = statistics.median(rates)
    return {
        "median": median,
        "min": min(rates),
        "max": max(rates),
        "per_device": median / jax.device_count(),
    }


def _describe(
    config: mlc.ConfigDict, system: system_lib.System, data_words: str, training: loop.Loop
) -> dict[str, Any]:
    return {
        "model": config.model_name,
        "units": _units(system),
        "batch_size": system.settings.batch_size,
        "input_shape": list(system.settings.input_shape),
        "dtype": config.model.dtype,
        "data": data_words,
        "placement": "host" if training.streams else "device",
        "steps_per_dispatch": training.num_steps,
        "microbatches": config.step.microbatches,
        "remat": config.step.remat,
        "device": _device().device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "jax": jax.__version__,
    }
