"""Adam with PyTorch's weight decay, against the algorithm as its documentation writes it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from jaxlung.training import optimizer

SETTINGS = dict(learning_rate=1e-2, weight_decay=0.1, b1=0.9, b2=0.999, eps=1e-8)


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


class OptimizerTest(parameterized.TestCase):
    def test_matches_pytorchs_adam_with_l2(self):
        start = np.random.default_rng(0).normal(size=5)
        want = torch_adam(start, lambda theta: np.cos(theta), 20, **SETTINGS)
        tx = optimizer.make_optimizer(**SETTINGS, freeze="")

        def step(carry, _):
            theta, opt_state = carry
            updates, opt_state = tx.update(jnp.cos(theta), opt_state, theta)
            updates *= SETTINGS["learning_rate"]  # As the training step does.
            return (optax.apply_updates(theta, updates), opt_state), None

        theta = jnp.asarray(start, jnp.float32)
        (got, _), _ = jax.lax.scan(step, (theta, tx.init(theta)), length=20)
        # Twenty float32 steps of 1e-2: a relative 1e-5 of the way gone.
        np.testing.assert_allclose(got, want, atol=2e-6)

    def test_frozen_parameters_get_no_updates_and_others_those_they_got_alone(self):
        """Weight decay would move a parameter without a gradient, too."""
        both = {"encoder": {"kernel": jnp.ones(3)}, "head": jnp.full(2, 2.0)}
        tx = optimizer.make_optimizer(**SETTINGS, freeze="encoder/.*")
        updates, _ = tx.update(jax.tree.map(jnp.cos, both), tx.init(both), both)
        np.testing.assert_array_equal(updates["encoder"]["kernel"], np.zeros(3))
        alone, head = optimizer.make_optimizer(**SETTINGS, freeze=""), both["head"]
        want, _ = alone.update(jnp.cos(head), alone.init(head), head)
        np.testing.assert_array_equal(updates["head"], want)
        assert np.all(want != 0)

    @parameterized.parameters(
        ("learning_rate", 0.0), ("weight_decay", -1.0), ("b1", 1.0), ("b2", -0.1)
    )
    def test_settings_that_can_not_be_are_errors(self, name, value):
        with pytest.raises(ValueError, match=f"optimizer.{name}: got {value}"):
            optimizer.make_optimizer(**SETTINGS | {name: value}, freeze="")
