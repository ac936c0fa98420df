"""Starting from another run's network."""

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file, workdir
from jaxlung.training import checkpoint, transfer
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib
from tests import array_source

SPLITS = {
    "train": array_source.ArraySource(10),
    "validation": array_source.ArraySource(6, seed=1),
}


def make_config(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.epochs = 1
    # As in loop_test.py: what was compiled there serves here too.
    config.augment.update(flip_probability=0.5, shift_fraction=0.1)
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = epath.Path(tmp_path_factory.mktemp("run"))
    workdir.open_for(make_config(), path)
    assert train.train(make_config(), path, SPLITS)
    return path


def shapes_of(**changes):
    return system_lib.make_system(make_config(**changes)).abstract_state()


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), jax.device_get(want))


def test_a_run_begins_with_the_others_network_and_nothing_else(trained, tmp_path):
    """Another seed, task, optimizer and frozen part: shapes alone must agree."""
    changes = {"seed": 5, "freeze": "encoder_.*", "optimizer.learning_rate": 0.5}
    config = make_config(init_from=str(trained), task_name="mask", **changes)
    with config.unlocked():
        config.task = dict(target="lung", threshold=0.5, loss="bce", alpha=0.5)
    system = system_lib.make_system(config)
    state, progress = train.restore_or_init(epath.Path(tmp_path), system, config.init_from)
    theirs = checkpoint.load_selected(
        trained, "last", system_lib.make_system(make_config()).abstract_state()
    )
    fresh = system.init_state()
    assert int(theirs.step) == 3
    assert_equal(state.params, theirs.params)
    assert_equal(state.batch_stats, theirs.batch_stats)
    assert not np.array_equal(state.params["head"]["kernel"], fresh.params["head"]["kernel"])
    assert int(state.step) == 0
    assert_equal(state.opt_state, fresh.opt_state)
    assert float(state.learning_rate) == 0.5
    assert progress["epoch_steps"] == []


def test_a_run_that_was_begun_goes_on_from_its_own_checkpoint(trained, tmp_path):
    config = make_config(init_from=str(trained), seed=3)
    path = epath.Path(tmp_path)
    assert train.train(config, path, SPLITS)
    system = system_lib.make_system(config)
    own = checkpoint.load_selected(path, "last", system.abstract_state())
    state, _ = train.restore_or_init(path, system, "a folder that is gone")
    assert_equal(state, own)


def test_a_network_of_other_shapes_is_an_error_that_names_the_parameters(trained):
    with pytest.raises(
        ValueError,
        match=r"does not fit: bottleneck/conv_0/kernel is \(3, 3, 4, 8\) there and "
        r"\(3, 3, 4, 12\) here;.*\(\d+ in all\)",
    ):
        transfer.copy_network(str(trained), shapes_of(**{"model.widths": (4, 12)}))
    with pytest.raises(ValueError, match=r"head/bias is absent there and \(1,\) here; head_norm"):
        transfer.copy_network(str(trained), shapes_of(**{"model.head_norm": False}))


def test_what_is_no_trained_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not a run's folder"):
        transfer.copy_network(str(tmp_path), shapes_of())
    workdir.open_for(make_config(), epath.Path(tmp_path))
    with pytest.raises(ValueError, match=r"init_from: .* has no checkpoint; train it first"):
        transfer.copy_network(str(tmp_path), shapes_of())
