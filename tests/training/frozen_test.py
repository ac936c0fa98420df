"""Frozen parts: what a pattern names stays as it is, and all else trains."""

import functools

import jax
import numpy as np
import pytest

from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.models import unet
from jaxlung.training import frozen
from jaxlung.training import system as system_lib
from tests import array_source

ENCODER = r"encoder_.*|bottleneck/.*"


def make_config(freeze):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.optimizer.update(learning_rate=1e-2, weight_decay=0.1)
    config.data.image_size = 16
    config.freeze = freeze
    return config


def run_steps(config, num_steps):
    """The fresh state, and the one after some steps."""
    system = system_lib.make_system(config)
    source = array_source.ArraySource(10)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    state, step_fn = system.init_state(), system.jit_train_step(feed.take)
    start = jax.device_get(state)
    for item in feed.items(
        order.in_turn(10), system.settings.batch_size, order.one_by_one(0, num_steps)
    ):
        state, _ = step_fn(state, feed.store, item, system.seed)
    return start, jax.device_get(state)


def by_path(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def moved(before, after):
    before, after = by_path(before), by_path(after)
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_a_frozen_encoder_keeps_parameters_and_statistics_and_the_rest_trains():
    start, end = run_steps(make_config(ENCODER), 3)
    for before, after in ((start.params, end.params), (start.batch_stats, end.batch_stats)):
        still = {name for name in by_path(before) if name.startswith(("encoder_", "bottleneck/"))}
        assert still
        assert moved(before, after) == set(by_path(before)) - still


@pytest.mark.slow
def test_without_a_pattern_everything_trains():
    start, end = run_steps(make_config(""), 3)
    assert moved(start.params, end.params) == set(by_path(start.params))
    assert moved(start.batch_stats, end.batch_stats) == set(by_path(start.batch_stats))


def test_frozen_batchnorms_use_running_statistics_in_training():
    """With all of them frozen, training's logits are the evaluation's; with none, they are not."""
    system, np_rng = system_lib.make_system(make_config("")), np.random.default_rng(0)
    images = np_rng.random((4, 16, 16, 1), np.float32)
    shapes = system.abstract_state()
    # Above 0, as a variance must be.
    params, batch_stats = jax.tree.map(
        lambda leaf: np_rng.random(leaf.shape, np.float32) + 0.1,
        (shapes.params, shapes.batch_stats),
    )
    variables = {"params": params, "batch_stats": batch_stats}

    def logits(freeze, train):
        def apply(variables, images):
            with frozen.still_statistics(freeze):
                mutable = ["batch_stats"]
                return system.model.apply(variables, images, train=train, mutable=mutable)[0]

        return jax.jit(apply)(variables, images)

    want = logits("", train=False)
    np.testing.assert_allclose(logits(r".*norm.*", train=True), want, rtol=1e-5)
    assert np.abs(logits("", train=True) - want).max() > 0.1


@pytest.mark.parametrize(
    ("freeze", "are_still"),
    [(r"encoder_.*/(kernel|bias|scale)", True), (r"encoder_.*/(kernel|bias)", False)],
)
def test_statistics_are_still_where_all_parameters_of_a_batchnorm_are(freeze, are_still):
    model = unet.UNet((2, 4), 1, head_norm=True, pad_input=False, dtype="float32")
    images = np.random.default_rng(0).random((2, 4, 4, 1), np.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.jit(init)(jax.random.key(0), images)
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    with frozen.still_statistics(freeze):
        after = jax.jit(apply)(variables, images)[1]
    statistics = set(by_path(variables["batch_stats"]))
    encoder = {name for name in statistics if name.startswith("encoder_")}
    assert encoder < statistics
    want = statistics - encoder if are_still else statistics
    assert moved(variables["batch_stats"], after["batch_stats"]) == want


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("encoder", "freeze: got 'encoder', which matches the whole path of no parameter; the"),
        ("encoder_0/conv_0/kernl", r"the nearest is encoder_0/conv_0/kernel; all begin with one "),
        ("x", r"one of bottleneck, decoder_0, encoder_0, head, head_norm, up_0\."),
        (".*", r"freeze: got '\.\*', which leaves no parameter to train"),
        ("encoder_(", r"freeze: got 'encoder_\(', want a regular expression \(missing \)"),
    ],
)
def test_patterns_that_can_not_be_are_errors(freeze, message):
    with pytest.raises(ValueError, match=message):
        system_lib.make_system(make_config(freeze))
