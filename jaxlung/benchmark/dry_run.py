"""The cost of a config without running it: parameters, FLOPs and memory of the training step."""

from typing import Any

import jax
import ml_collections as mlc
from absl import logging

from jaxlung.benchmark import flops
from jaxlung.data.feed import example, stream
from jaxlung.training import system as system_lib


def dry_run(config: mlc.ConfigDict) -> dict[str, int | float]:
    """Compiles one training step on abstract data; reads no data and trains nothing.

    Args:
        config: the run.

    Returns:
        "parameters"; "flops_per_image" or "flops_per_patch" of a training step, as `flops.count`
        counts them; "memory_bytes" of one device during the step: state, batch and activations.
    """
    system = system_lib.make_system(config)
    state = system.abstract_state()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        logging.info("%-40s %s", jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape)
    logging.info("compiling the training step")
    step_fn = system.jit_train_step(stream.take)
    traced = step_fn.trace(
        state, {}, abstract_item(system, system.settings.batch_size), system.seed
    )
    batch_size, unit = system.settings.batch_size, unit_of(system)
    costs = {
        "parameters": num_parameters(state),
        f"flops_per_{unit}": flops.count(traced.jaxpr.jaxpr) / batch_size,
        "memory_bytes": memory_bytes(traced.lower().compile()),
    }
    logging.info(
        "batch %s, %s parameters, %.2f GFLOP per %s, %.2f GiB on a device",
        [batch_size, *system.settings.input_shape],
        f"{costs['parameters']:,}",
        costs[f"flops_per_{unit}"] / 1e9,
        unit,
        costs["memory_bytes"] / 2**30,
    )
    return costs


def unit_of(system: system_lib.System) -> str:
    """Returns the word for an example: "image" or "patch"."""
    return "patch" if system.is_volumetric else "image"


def abstract_item(system: system_lib.System, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, types and shardings of a batch that `stream` would send for one step."""
    return {
        name: jax.ShapeDtypeStruct(
            (1, batch_size, *spec.shape),
            spec.dtype,
            sharding=system.shardings.steps,
        )
        for name, spec in example.specs(system.settings).items()
    }


def num_parameters(state: Any) -> int:
    """Returns the number of parameters in a `train_step.TrainState`."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def memory_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes of one device that a program takes, as the compiler plans them."""
    memory = compiled.memory_analysis()
    assert memory is not None  # CPUs, GPUs and TPUs all tell it.
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
