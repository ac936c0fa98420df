"""The average of a network over the last steps: what it holds, and who uses it."""

import dataclasses
import itertools

import flax.traverse_util
import jax
import ml_collections
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file
from jaxlung.data.feed import stream
from jaxlung.export import writer
from jaxlung.training import checkpoint, trained, transfer
from jaxlung.training import system as system_lib

DECAY = 0.7


def make_system(**fields):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.update_from_flattened_dict({"data.image_size": 16, "optimizer.average_decay": DECAY})
    config.update_from_flattened_dict(fields)
    return system_lib.make_system(config)


def draw_item(system, seed):
    np_rng = np.random.default_rng(seed)
    shape = (1, system.settings.batch_size, 16, 16)
    return {
        "images": np_rng.integers(0, 256, shape, np.uint8),
        "masks": np_rng.integers(0, 4, shape, np.uint8),
        "labels": np.zeros(shape[:2], np.uint8),
    }


def run(system, steps=6, first=None):
    """Returns the states after every step, and before the first."""
    state = first or system.init_state()
    step_fn = system.jit_train_step(stream.take, steps)
    states = [jax.device_get(state)]
    for number in range(int(state.step), steps):
        state, _ = step_fn(state, {}, draw_item(system, number), system.seed)
        states.append(jax.device_get(state))
    return states


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


def batch_statistics(old, new, momentum=0.9):
    """What flax's BatchNorm averaged into `new`, by its formula, in 64 bits."""
    return {
        name: (np.float64(new[name]) - momentum * np.float64(old[name])) / (1 - momentum)
        for name in new
    }


def test_it_is_the_average_of_parameters_and_batch_statistics():
    states = run(make_system())
    want = {name: np.float64(x) for name, x in flat(states[0].network).items()}
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        decay = min(DECAY, (1 + number) / (10 + number))
        now = {f"params/{name}": x for name, x in flat(after.params).items()}
        stats = batch_statistics(flat(before.batch_stats), flat(after.batch_stats))
        now |= {f"batch_stats/{name}": x for name, x in stats.items()}
        want = {name: decay * want[name] + (1 - decay) * now[name] for name in want}
        got = flat(after.average)
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_training_itself_is_the_same_to_the_bit():
    plain = run(make_system(**{"optimizer.average_decay": 0.0}))[-1]
    averaged = run(make_system())[-1]
    assert plain.average == {}
    for name in ("params", "batch_stats", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(plain, name), getattr(averaged, name))


def test_frozen_values_stay_as_they_are_to_the_bit():
    states = run(make_system(freeze=r"encoder_.*"))
    for name, value in flat(states[-1].average).items():
        if name.split("/")[1].startswith("encoder_"):
            np.testing.assert_array_equal(value, flat(states[0].network)[name], err_msg=name)
        elif name.endswith("kernel"):
            assert np.any(value != flat(states[0].network)[name])


def test_it_is_what_is_scored_and_exported():
    system = make_system()
    state = run(system)[-1]
    alone = dataclasses.replace(state, **state.average, average={})
    batch = jax.tree.map(lambda x: x[0], draw_item(system, 9))
    for program in (system.eval_step, system.window_step):
        got, want = program(state, batch), program(alone, batch)
        jax.tree.map(np.testing.assert_array_equal, got, want)
    other = system.window_step(dataclasses.replace(state, average={}), batch)
    assert np.any(np.asarray(other) != np.asarray(system.window_step(state, batch)))
    exported = writer.flatten(
        [trained.Trained(epath.Path(), ml_collections.ConfigDict(), system, state)]
    )
    assert exported.keys() == {f"0/{name}" for name in flat(state.average)}
    for name, value in flat(state.average).items():
        np.testing.assert_array_equal(exported[f"0/{name}"], value)


@pytest.mark.parametrize("changes", [{}, {"step.microbatches": 2, "data.batch_size": 8}])
def test_four_devices_average_as_one(changes, monkeypatch):
    four = run(make_system(**changes), steps=3)[-1]
    monkeypatch.setattr(system_lib.sharding, "visible_devices", lambda: jax.devices()[:1])
    one = run(make_system(**changes), steps=3)[-1]
    for name, value in flat(one.average).items():
        np.testing.assert_allclose(flat(four.average)[name], value, rtol=1e-3, atol=1e-4)


def test_a_run_that_was_saved_goes_on_to_the_same_bits_with_every_rule(tmp_path):
    rules = {"optimizer.name": "sgd", "optimizer.clip_norm": 0.5, "optimizer.schedule": "cosine"}
    system = make_system(**rules, **{"optimizer.warmup_fraction": 0.3})
    whole = run(system)
    saved = jax.device_put(whole[3], system.shardings.replicated)
    with checkpoint.open_to_save(tmp_path) as saver:
        saver.save(saved, {})
    with checkpoint.open_manager(tmp_path) as manager:
        restored, _ = checkpoint.restore_latest(manager, system.abstract_state())
    jax.tree.map(np.testing.assert_array_equal, run(system, first=restored)[-1], whole[-1])


def test_a_run_that_starts_from_an_averaged_network_starts_from_the_average():
    system = make_system()
    state = run(system)[-1]
    fresh = jax.tree.map(np.asarray, system.init_state())
    started = transfer.start_from(state, fresh)
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, getattr(started, name), state.average[name])
        jax.tree.map(np.testing.assert_array_equal, started.average[name], state.average[name])
    assert int(started.step) == 0
