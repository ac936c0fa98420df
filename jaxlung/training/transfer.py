"""Starts a run from the network of another one (`init_from` of a config)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung.config import workdir
from jaxlung.host import files
from jaxlung.training import system as system_lib
from jaxlung.training import train_step, trained


def copy_network(run: str, state: train_step.TrainState) -> train_step.TrainState:
    """Returns `state` with the parameters and statistics of another run's selected checkpoint.

    Args:
        run: folder of a trained run, on any dataset.
        state: fresh state, of a network with the same shapes.

    Raises:
        ValueError: no trained run is there, or its network has other shapes; names the parameters.
    """
    path, config, system = open_network(run, state)
    restored = trained.load_state(path, config, system)
    logging.info("starting from the network of %s at step %d", path, int(restored.step))
    return start_from(restored, state)


def start_from(
    trained_state: train_step.TrainState, fresh: train_step.TrainState
) -> train_step.TrainState:
    """Returns `fresh` with the network of a trained state, its average if it has one."""
    network = trained_state.network
    # A copy, as training reuses the memory of both.
    average = jax.tree.map(jnp.copy, network) if fresh.average else {}
    return dataclasses.replace(fresh, **network, average=average)


def open_network(
    run: str, state: train_step.TrainState
) -> tuple[epath.Path, mlc.ConfigDict, system_lib.System]:
    """Opens a trained run whose network has the shapes of `state`; reads its config alone.

    Args:
        run: folder of the trained run.
        state: state, or abstract state, of the run that will start from it.

    Returns:
        Absolute path of the folder, config and system of the trained run.

    Raises:
        ValueError: no trained run is there, or its network has other shapes.
    """
    path = files.to_absolute(run)
    try:
        config = workdir.load_config(path)
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from error
    if not workdir.is_trained(path):
        raise ValueError(f"init_from: {path} has no checkpoint; train it first.")
    config, system = trained.make_system(path, config)
    like = system.abstract_state()
    for name in ("params", "batch_stats"):
        _require_same(path, getattr(like, name), getattr(state, name))
    return path, config, system


def _require_same(path: epath.Path, theirs: Any, ours: Any) -> None:
    theirs, ours = _shapes(theirs), _shapes(ours)
    names = sorted(theirs.keys() | ours.keys())
    differing = [
        f"{name} is {theirs.get(name, 'absent')} there and {ours.get(name, 'absent')} here"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        more = f" ({len(differing)} in all)" if len(differing) > 5 else ""
        raise ValueError(
            f"init_from: the network of {path} does not fit: {'; '.join(differing[:5])}{more}."
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }
