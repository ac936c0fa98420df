"""Steps over devices, and what a config can't be."""

import jax
import numpy as np
import pytest

from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.parallel import sharding
from jaxlung.training import system as system_lib
from tests import array_source


def make_config(**data):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.update(data)
    return config


def test_randomness_comes_from_seed_and_step_alone():
    config = make_config()
    config.augment.update(shift_fraction=0.3, brightness=0.3)
    system = system_lib.make_system(config)
    feed = pipeline.open_feed(
        array_source.ArraySource(10), system.settings, system.shardings, "train"
    )
    (item,) = feed.items(order.shuffled(0, 10), 4, order.one_by_one(0, 1))
    step_fn = system.jit_train_step(feed.take)

    def loss(step, seed):
        state = system.init_state()
        state = state.replace(step=jax.device_put(np.int32(step), system.shardings.replicated))
        seed = jax.device_put(np.uint32(seed), system.shardings.replicated)
        return float(step_fn(state, feed.store, item, seed)[1]["loss"][0])

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(1, 0), loss(0, 1)}) == 3


def test_the_training_step_compiles_once():
    config = make_config()
    system = system_lib.make_system(config)
    source = array_source.ArraySource(10)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    state, step_fn = system.init_state(), system.jit_train_step(feed.take)
    for item in feed.items(order.shuffled(0, 10), 4, order.one_by_one(0, 4)):
        state, _ = step_fn(state, feed.store, item, system.seed)
    assert step_fn._cache_size() == 1


def test_a_system_is_made_for_the_devices_that_it_is_given():
    system = system_lib.make_system(make_config(), jax.devices()[1:3])
    assert system.shardings.mesh.devices.tolist() == [[jax.devices()[1]], [jax.devices()[2]]]
    assert (system.platform, system.steps_per_dispatch) == ("cpu", 1)
    assert isinstance(system.seed, jax.Array)
    assert system.seed.devices() == set(jax.devices()[1:3])
    assert not system.shardings.are_described


def test_the_step_runs_without_implicit_transfers():
    with jax.transfer_guard("disallow"):
        system = system_lib.make_system(make_config())
        source = array_source.ArraySource(10)
        feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
        with jax.transfer_guard("allow"):
            state = system.init_state()
        step_fn = system.jit_train_step(feed.take)
        for item in feed.items(order.shuffled(0, 10), 4, order.one_by_one(0, 3)):
            state, _ = step_fn(state, feed.store, item, system.seed)
    assert int(state.step) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "unett"}, "model_name: got 'unett', want one of unet, "),
        ({"task_name": "lungs"}, "task_name: got 'lungs', want one of diagnosis, mask"),
        ({"mesh.data": 3}, r"mesh: got data=3 x space=1 = 3, want the number of devices, 4"),
        ({"mesh.space": 0}, r"mesh: got data=-1, space=0"),
        ({"data.batch_size": 6}, r"data.batch_size: got 6, want a multiple of the 4 device"),
        ({"data.eval_batch_size": 5}, r"data.eval_batch_size: got 5, want a multiple of the 4"),
        ({"selection": "bets"}, "selection: got 'bets', want one of last, best"),
        ({"model.dtype": "bf16"}, "model.dtype: got 'bf16', want one of float32, bfloat16"),
        ({"model.widths": (8,)}, r"model.widths: got \(8,\), want two or more"),
        ({"epochs": 0}, "epochs: got 0, want 1 or more"),
        ({"seed": -1}, "seed: got -1"),
        ({"augment.flip_probability": 2.0}, "augment.flip_probability: want 0 to 1, got 2.0"),
        ({"optimizer.learning_rate": -1.0}, "optimizer.learning_rate: got -1.0"),
    ],
)
def test_settings_that_can_not_be_are_errors(change, message):
    config = make_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        system_lib.make_system(config)


@pytest.mark.parametrize("name", [*config_file.shipped_configs(), "covid19_ct:quick"])
def test_a_state_is_of_32_bits_whatever_jax_takes_for_default(name):
    config = config_file.load(config_file.resolve(name))
    config.data.update(batch_size=4, eval_batch_size=4)
    system = system_lib.make_system(config)
    want = system.abstract_state()
    with jax.enable_x64(True):
        got = system.abstract_state()
    types = {str(leaf.dtype) for leaf in jax.tree.leaves(got)}
    assert types <= {"float32", "int32"}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == jax.tree.map(
        lambda x: (x.shape, x.dtype), want
    )


def test_fresh_weights_are_the_same_with_64_bits_on():
    system = system_lib.make_system(make_config())
    want = jax.device_get(system.init_state())
    with jax.enable_x64(True):
        got = jax.device_get(system.init_state())
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "covidqu:quick",
            {"data.image_size": 100_000},
            r"image_size: got 100000, .* take [\d,]{13}",
        ),
        ("covidqu:quick", {"data.batch_size": 10**9}, r"batch_size=1000000000\) take [\d,]{13}"),
        ("covidqu:quick", {"data.eval_batch_size": 10**9}, r"eval_batch_size=1000000000\) take"),
        (
            "covid19_ct:quick",
            {"data.patch_size": (10**5,) * 3},
            r"patch_size: got \(100000, .* take",
        ),
        (
            "covid19_ct:quick",
            {"data.patch_size": (8, "a", 8)},
            r"patch_size: got \(8, 'a', 8\), want",
        ),
        (
            "covid19_ct:quick",
            {"data.spacing_mm": (1, "a", 1)},
            r"spacing_mm: got \(1, 'a', 1\), want",
        ),
        ("covid19_ct:quick", {"data.spacing_mm": (1, np.inf, 1)}, "spacing_mm: got .*inf.*, want"),
        ("covid19_ct:quick", {"window_hu": ("a", 1)}, r"window_hu: got \('a', 1\), want two"),
    ],
)
def test_sizes_out_of_all_proportion_and_what_is_no_number_are_errors(name, change, message):
    config = config_file.load(config_file.resolve(name))
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        system_lib.make_system(config)


@pytest.mark.parametrize(
    ("name", "form"), [("covidqu:quick", "in_pairs"), ("covid19_ct:quick", "in_lanes")]
)
def test_a_tpus_network_is_in_the_form_for_tpus(monkeypatch, name, form):
    monkeypatch.setattr(sharding.Shardings, "platform", "tpu")
    system = system_lib.make_system(config_file.load(config_file.resolve(name)))
    assert getattr(system.model, form)
    assert not getattr(system.model.for_platform("cpu"), form)  # as exported programs have it
