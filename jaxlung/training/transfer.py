"""Starting from another run's network."""

from typing import Any

import jax
import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung.config import workdir
from jaxlung.training import checkpoint, train_step
from jaxlung.training import system as system_lib


def copy_network(run: str, state: train_step.TrainState) -> train_step.TrainState:
    """`state` with parameters and statistics of a run's selected checkpoint.

    Args:
        run: folder of a trained run, of any dataset, with a network of the same shapes.
        state: fresh.

    Raises:
        ValueError: no trained run there, or a network of other shapes; names the parameters.
    """
    path, config, like = open_network(run, state)
    restored = checkpoint.load_selected(path, config.selection, like)
    logging.info("starting from the network of %s, step %d", path, int(restored.step))
    return state.replace(params=restored.params, batch_stats=restored.batch_stats)


def open_network(
    run: str, state: train_step.TrainState
) -> tuple[epath.Path, mlc.ConfigDict, train_step.TrainState]:
    """Folder, config and abstract state of a trained run whose network has the shapes of `state`.

    Raises:
        ValueError: as `copy_network`; nothing was read but its config.
    """
    path = epath.Path(run).expanduser().resolve()
    try:
        config = workdir.load_config(path)
    except ValueError as error:
        raise ValueError(f"init_from: {error}") from error
    if not workdir.is_trained(path):
        raise ValueError(f"init_from: {path} has no checkpoint; train it first.")
    with workdir.naming_config(path):
        like = system_lib.make_system(config).abstract_state()
    for name in ("params", "batch_stats"):
        _require_same(path, getattr(like, name), getattr(state, name))
    return path, config, like


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
