"""Training steps in groups, in parts, and with less memory: the same as plain ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlung.config import config_file
from jaxlung.data.feed import example, order, pipeline, stream
from jaxlung.training import optimizer
from jaxlung.training import system as system_lib
from tests import array_source


def make_system(name="covidqu", **changes):
    config = config_file.load(config_file.resolve(f"{name}:quick"))
    if "image_size" in config.data:
        config.data.update(image_size=16, batch_size=8)
    config.update_from_flattened_dict(changes)
    return system_lib.make_system(config)


def run(system, dispatches):
    """The state after some dispatches, and the metrics of every step."""
    source = array_source.ArraySource(20)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    state, step_fn = system.init_state(), system.jit_train_step(feed.take)
    rows = []
    for item in feed.items(order.shuffled(0, 20), system.settings.batch_size, dispatches):
        state, metrics = step_fn(state, feed.store, item, system.seed)
        rows.append(jax.device_get(metrics))
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return jax.device_get(state), joined


@pytest.mark.parametrize("placement", ["device", "host"])
def test_steps_sent_together_are_those_sent_one_by_one(placement):
    system = make_system(
        **{"augment.flip_probability": 0.5, "data.placement": placement, "model.widths": (4, 4)}
    )
    want, want_metrics = run(system, order.one_by_one(0, 4))
    got, got_metrics = run(system, [range(3), range(3, 4)])
    assert got.step == want.step == 4
    # A loop is another program: sums in float32 are taken in another order, and Adam divides by
    # small numbers.
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(got_metrics[name], want_metrics[name], rtol=1e-4)
    assert len(set(want_metrics["loss"].tolist())) == 4
    assert got_metrics["confusion"].shape == want_metrics["confusion"].shape
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got.params, want.params)


def test_parts_of_a_batch_add_up_to_it_where_examples_do_not_meet():
    """Zhang's U-Net has no BatchNorm: its gradient is the mean over examples, however cut."""
    no_dropout = {"model.dropout": 0.0}
    plain, plain_metrics = run(make_system("v7_lungs", **no_dropout), order.one_by_one(0, 2))
    parts, parts_metrics = run(
        make_system("v7_lungs", **no_dropout, **{"step.microbatches": 2}), order.one_by_one(0, 2)
    )
    for name in ("loss", "loss_excess", "grad_norm"):
        np.testing.assert_allclose(parts_metrics[name], plain_metrics[name], rtol=1e-4)
    np.testing.assert_array_equal(
        parts_metrics["confusion"].sum(axis=(1, 2)), plain_metrics["confusion"].sum(axis=(1, 2))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), parts.params, plain.params
    )


def test_parts_take_every_other_row_and_hand_their_statistics_on():
    system = make_system(**{"step.microbatches": 2, "data.batch_size": 8})
    state, np_rng = system.init_state(), np.random.default_rng(0)
    batch = {
        "images": jnp.asarray(np_rng.integers(0, 256, (8, 16, 16)), jnp.uint8),
        "masks": jnp.asarray(np_rng.integers(0, 4, (8, 16, 16)), jnp.uint8),
        "labels": jnp.zeros(8, jnp.uint8),
    }
    part = jax.jit(system.step.differentiate)
    rng = jax.random.fold_in(jax.random.key(system.seed), 0)
    stats, all_grads, losses = state.batch_stats, [], []
    for j in range(2):
        rows = {name: array[j::2] for name, array in batch.items()}
        stats, (grads, metrics) = part(state.params, stats, jax.random.fold_in(rng, j), rows)
        all_grads.append(grads)
        losses.append(metrics["loss"])
    grads = jax.tree.map(lambda a, b: (a + b) / 2, *all_grads)
    schedule = optimizer.make_schedule(system.optimizer, total_steps=1)
    train = jax.jit(functools.partial(system.step.train, schedule=schedule))
    after, metrics = train(state, batch, system.seed)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after.batch_stats,
        stats,
    )


def test_activations_computed_again_give_the_same_step():
    (want, want_metrics), (got, got_metrics) = (
        run(make_system(**{"step.remat": remat}), order.one_by_one(0, 2)) for remat in (False, True)
    )
    np.testing.assert_allclose(got_metrics["loss"], want_metrics["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got.params, want.params)


@pytest.mark.parametrize("name", ["covidqu", "covidqu_residual"])
def test_a_step_keeps_less_for_the_gradient_with_remat_and_with_microbatches(name, monkeypatch):
    changes = {"data.batch_size": 8}
    plain = kept_for_the_gradient(make_system(name, **changes), monkeypatch)
    remat = kept_for_the_gradient(make_system(name, **changes, **{"step.remat": True}), monkeypatch)
    parts = kept_for_the_gradient(
        make_system(name, **changes, **{"step.microbatches": 2}), monkeypatch
    )
    # Without remat it keeps what convolutions read and what they return; with it, the latter.
    assert remat < 0.6 * plain
    assert 0.4 * plain < parts < 0.6 * plain


def kept_for_the_gradient(system, monkeypatch):
    """Bytes that a forward pass hands to the backward pass."""
    kept, value_and_grad = [], jax.value_and_grad

    def spy(fun, has_aux):
        def run(params):
            backward = jax.vjp(fun, params, has_aux=True)[1]
            kept.append(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward)))
            return value_and_grad(fun, has_aux=has_aux)(params)

        return run

    shapes = example.specs(system.settings)
    item = {
        name: jax.ShapeDtypeStruct((1, system.settings.batch_size, *spec.shape), spec.dtype)
        for name, spec in shapes.items()
    }
    with monkeypatch.context() as patch:
        patch.setattr(jax, "value_and_grad", spy)
        step_fn = system.jit_train_step(stream.take)
        jax.eval_shape(step_fn, system.abstract_state(), {}, item, system.seed)
    return max(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step.microbatches": 3}, r"step\.microbatches: got 3, want a divisor of the 2 examples"),
        ({"step.microbatches": 0}, r"step\.microbatches: got 0, want 1 or more"),
        ({"step.steps_per_dispatch": -1}, r"step\.steps_per_dispatch: got -1, want 0 or more"),
    ],
)
def test_settings_that_can_not_be_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        make_system(**change)
