"""Adam against plain arithmetic, and parts of a network that don't train."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from jaxlung.config import config_file, defaults
from jaxlung.data.feed import order, pipeline
from jaxlung.models import unet
from jaxlung.training import optimizer
from jaxlung.training import system as system_lib
from tests import array_source

ADAM = dict(learning_rate=1e-2, weight_decay=0.1, b1=0.9, b2=0.999, eps=1e-8)


def make(freeze="", **changes):
    settings = optimizer.Settings(**defaults.optimizer(**ADAM | changes))
    return optimizer.make_optimizer(settings, freeze)


def torch_adam(theta, grad_fn, steps, *, learning_rate, weight_decay, b1, b2, eps):
    """torch.optim.Adam's pseudo code: g <- g + lambda theta, then the moments."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = grad_fn(theta) + weight_decay * theta
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - learning_rate * m_hat / (np.sqrt(v_hat) + eps)
    return theta


def torch_adamw(theta, grad_fn, steps, *, learning_rate, weight_decay, b1, b2, eps):
    """torch.optim.AdamW's pseudo code: theta <- theta - gamma lambda theta, then Adam."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = grad_fn(theta)
        theta = theta - learning_rate * weight_decay * theta
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - learning_rate * m_hat / (np.sqrt(v_hat) + eps)
    return theta


def torch_sgd(theta, grad_fn, steps, *, learning_rate, weight_decay, momentum, **_):
    """torch.optim.SGD's pseudo code with nesterov=True."""
    b = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = grad_fn(theta) + weight_decay * theta
        b = momentum * b + g if t > 1 else g
        theta = theta - learning_rate * (g + momentum * b)
    return theta


class OptimizerTest(parameterized.TestCase):
    @parameterized.parameters(
        (torch_adam, {}),
        (torch_adamw, dict(name="adamw")),
        (functools.partial(torch_sgd, momentum=0.8), dict(name="sgd", momentum=0.8)),
    )
    def test_matches_pytorchs(self, oracle, changes):
        start = np.random.default_rng(0).normal(size=5)
        want = oracle(start, lambda theta: np.cos(theta), 20, **ADAM)
        tx = make(**changes)

        def step(carry, _):
            theta, opt_state = carry
            updates, opt_state = tx.update(jnp.cos(theta), opt_state, theta)
            updates *= ADAM["learning_rate"]  # As the training step does.
            return (optax.apply_updates(theta, updates), opt_state), None

        theta = jnp.asarray(start, jnp.float32)
        (got, _), _ = jax.lax.scan(step, (theta, tx.init(theta)), length=20)
        # Twenty float32 steps of 1e-2: a relative 1e-5 of the way gone.
        np.testing.assert_allclose(got, want, atol=2e-6)

    def test_gradients_are_clipped_together(self):
        grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
        tx = make(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=2.0)
        updates, _ = tx.update(grads, tx.init(grads), grads)
        np.testing.assert_allclose(updates["a"], [-1.2, 0], rtol=1e-6)
        np.testing.assert_allclose(updates["b"], [-1.6], rtol=1e-6)
        free = make(name="sgd", momentum=0.0, weight_decay=0.0)
        np.testing.assert_allclose(free.update(grads, free.init(grads), grads)[0]["b"], [-4.0])

    def test_frozen_parameters_get_no_updates_and_others_those_they_got_alone(self):
        """Weight decay would move a parameter without a gradient, too."""
        both = {"encoder": {"kernel": jnp.ones(3)}, "head": jnp.full(2, 2.0)}
        tx = make("encoder/.*")
        updates, _ = tx.update(jax.tree.map(jnp.cos, both), tx.init(both), both)
        np.testing.assert_array_equal(updates["encoder"]["kernel"], np.zeros(3))
        alone, head = make(), both["head"]
        want, _ = alone.update(jnp.cos(head), alone.init(head), head)
        np.testing.assert_array_equal(updates["head"], want)
        assert np.all(want != 0)

    @parameterized.parameters(
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("b1", 1.0),
        ("b2", -0.1),
        ("clip_norm", -1.0),
        ("warmup_fraction", 1.0),
        ("average_decay", 1.0),
        ("power", 0.0),
    )
    def test_settings_that_can_not_be_are_errors(self, name, value):
        with pytest.raises(ValueError, match=f"optimizer.{name}: got {value}"):
            make(**{name: value})

    def test_choices_are_listed(self):
        with pytest.raises(
            ValueError, match=r"optimizer.name: got 'lion', want one of adam, adamw"
        ):
            make(name="lion")
        with pytest.raises(
            ValueError, match=r"optimizer.schedule: got 'step', want one of constant"
        ):
            make(schedule="step")
        with pytest.raises(ValueError, match=r"optimizer.warmup_fraction: got 0, want more for a"):
            make(schedule="one_cycle")


class ScheduleTest(parameterized.TestCase):
    def course(self, total, **changes):
        settings = optimizer.Settings(**defaults.optimizer(**changes))
        schedule = optimizer.make_schedule(settings, total)
        return np.array([float(schedule(jnp.int32(step))) for step in range(total)])

    def test_courses_by_their_formulas(self):
        steps = np.arange(100)
        np.testing.assert_array_equal(self.course(100), 1)
        want = 0.1 + 0.9 * (1 + np.cos(np.pi * steps / 100)) / 2
        np.testing.assert_allclose(
            self.course(100, schedule="cosine", end_fraction=0.1), want, rtol=1e-5
        )
        want = (1 - steps / 100) ** 0.9
        np.testing.assert_allclose(self.course(100, schedule="polynomial"), want, rtol=1e-5)

    @parameterized.parameters("constant", "cosine", "polynomial")
    def test_a_warm_up_rises_in_a_line_and_the_rest_is_the_course_of_what_is_left(self, schedule):
        got = self.course(100, schedule=schedule, warmup_fraction=0.2)
        np.testing.assert_allclose(got[:20], np.arange(20) / 20, rtol=1e-6)
        np.testing.assert_allclose(got[20:], self.course(80, schedule=schedule), rtol=1e-5)

    def test_one_cycle_rises_from_a_25th_and_falls_to_nearly_nothing(self):
        got = self.course(100, schedule="one_cycle", warmup_fraction=0.3)
        np.testing.assert_allclose(got[0], 1 / 25, rtol=1e-5)
        np.testing.assert_allclose(got[30], 1, rtol=1e-5)
        assert np.all(np.diff(got[:31]) > 0)
        assert np.all(np.diff(got[30:]) < 0)
        assert got[-1] < 1e-3

    @parameterized.product(schedule=optimizer.SCHEDULES, total=[1, 2, 3])
    def test_the_shortest_runs_have_finite_rates(self, schedule, total):
        got = self.course(total, schedule=schedule, warmup_fraction=0.3)
        assert np.all((got >= 0) & (got <= 1))


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
            with optimizer.still_statistics(freeze):
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
    with optimizer.still_statistics(freeze):
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
