"""What a config would cost: shapes, parameters, FLOPs and memory of the compiled step."""

import json

import jax
import ml_collections as mlc
from absl import logging

from jaxlung import system as system_lib
from jaxlung.data import example, stream


def dry_run(config: mlc.ConfigDict) -> dict[str, int | float]:
    """Compiles one training step on abstract data; reads no data and trains nothing.

    Args:
        config: the run.

    Returns:
        "parameters"; "flops_per_image" of a training step, counted by XLA; "memory_bytes" of one
        device while it runs (state, batch, activations).
    """
    system = system_lib.make_system(config)
    batch_size = system.settings.batch_size
    state = system.abstract_state()
    item = {
        name: jax.ShapeDtypeStruct(
            (batch_size, *spec.shape), spec.dtype, sharding=system.shardings.batch
        )
        for name, spec in example.specs(system.settings).items()
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        logging.info("%-40s %s", jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape)
    logging.info("compiling the training step")
    compiled = system.jit_train_step(stream.take).lower(state, {}, item, system.seed).compile()
    memory = compiled.memory_analysis()
    costs = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "flops_per_image": _flops(compiled) * jax.device_count() / batch_size,
        "memory_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
    }
    logging.info(
        "batch %s, %s parameters, %.2f GFLOP per image, %.2f GiB on a device",
        [batch_size, *system.settings.input_shape],
        f"{costs['parameters']:,}",
        costs["flops_per_image"] / 1e9,
        costs["memory_bytes"] / 2**30,
    )
    return costs


def to_line(costs: dict[str, int | float]) -> str:
    """The costs as one line of JSON."""
    return json.dumps(costs)


def _flops(compiled: jax.stages.Compiled) -> float:
    """FLOPs of one device's program, as XLA counts them."""
    analysis = compiled.cost_analysis()
    return float(analysis["flops"])
