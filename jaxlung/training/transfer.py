"""Starts a run from the network of another one (`init_from` of a config)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from etils import epath

from jaxlung.config import shipped, workdir
from jaxlung.host import files
from jaxlung.training import train_step, trained


def copy_network(model: str, state: train_step.TrainState) -> train_step.TrainState:
    """Returns `state` with the parameters and statistics of a trained network.

    Args:
        model: folder of a trained run, on any dataset; an exported file; or the name of a network
            that comes along with jaxlung.
        state: fresh state, of a network with the same shapes.

    Raises:
        ValueError: no trained network is there, or it has other shapes; names the parameters.
    """
    require_fits(model, state)
    path = files.to_absolute(shipped.resolve(model))
    if path.is_file():
        found = trained.open_all(path)[0].state
    else:  # It may be a diagnosis whose threshold wasn't chosen yet.
        found = trained.load_state(path, *trained.make_system(path, workdir.load_config(path)))
    logging.info("starting from the network of %s at step %d", path, int(found.step))
    return start_from(found, state)


def start_from(
    trained_state: train_step.TrainState, fresh: train_step.TrainState
) -> train_step.TrainState:
    """Returns `fresh` with the network of a trained state, its average if it has one."""
    network = trained_state.network
    # A copy, as training reuses the memory of both.
    average = jax.tree.map(jnp.copy, network) if fresh.average else {}
    return dataclasses.replace(fresh, **network, average=average)


def require_fits(model: str, state: train_step.TrainState) -> None:
    """Raises ValueError unless a trained network is there and has the shapes of `state`.

    Of a run only the config is read.

    Args:
        model: see `copy_network`.
        state: state, or abstract state, of the run that will start from it.
    """
    try:
        path = files.to_absolute(shipped.resolve(model))
        if path.is_file():
            networks = [found.state for found in trained.open_all(path)]
        else:
            networks = [trained.make_system(path, workdir.load_config(path))[1].abstract_state()]
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from error
    if not path.is_file() and not workdir.is_trained(path):
        raise ValueError(f"init_from: {path} has no checkpoint; train it first.")
    if len(networks) != 1:
        raise ValueError(f"init_from: {path} holds {len(networks)} networks, want one.")
    for name in ("params", "batch_stats"):
        _require_same(path, getattr(networks[0], name), getattr(state, name))


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
