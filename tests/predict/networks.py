"""Runs for tests of prediction: small networks with fresh weights, in folders like trained ones."""

import dataclasses

import jax
from etils import epath

from jaxlung.config import config_file, workdir
from jaxlung.training import checkpoint, system

SPECS = {
    "lung": "cxr_lungs:quick",
    "infection": "cxr_lungs:quick",
    "levels": "covidqu:quick",
    "diagnosis": "v7_diagnosis:lungs=predicted,quick",
    "ct_lung": "covid19_ct:target=lungs,quick",
    "ct_infection": "covid19_ct:quick",
}


def make_config(role, **changes):
    config = config_file.load(config_file.resolve(SPECS[role]))
    if role == "infection":
        config.task.target = "infection"
    config.update_from_flattened_dict(changes)
    return config


def save_run(path, config, bias=0.0):
    """Writes config and checkpoint; `bias` is added to the logits, so that something is found."""
    path = epath.Path(path)
    workdir.open_for(config, path)
    state = system.make_system(config).init_state()
    if bias:
        leaves, structure = jax.tree_util.tree_flatten(state.params)
        leaves[_last_bias(state.params)] += bias
        state = dataclasses.replace(state, params=jax.tree.unflatten(structure, leaves))
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    (path / "finished.txt").write_text("0\n")
    return path


def _last_bias(params):
    """Position of the bias of the last layer."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return next(
        i
        for i, path in enumerate(paths)
        if path.endswith(("['head']['bias']", "['head_norm']['bias']"))
    )
