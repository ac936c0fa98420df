"""Binary cross-entropy against scikit-learn and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import special
from sklearn import metrics

from jaxlung.losses import cross_entropy


class BceTest(parameterized.TestCase):
    @parameterized.parameters([(3, 4, 5, 1)], [(3, 2, 4, 5, 1)], [(3, 7)])
    def test_matches_sklearn_log_loss_per_image_and_volume(self, shape):
        np_rng = np.random.default_rng(0)
        logits = np_rng.normal(size=shape).astype(np.float32) * 3
        targets = (np_rng.random(shape) > 0.5).astype(np.float32)
        got = jax.jit(cross_entropy.bce)(logits, targets)
        want = [
            metrics.log_loss(t.ravel(), special.expit(x.ravel()))
            for x, t in zip(logits.astype(np.float64), targets, strict=True)
        ]
        np.testing.assert_allclose(got, want, rtol=1e-5)

    def test_large_logits_are_finite_in_value_and_gradient(self):
        logits = jnp.array([-1e4, 1e4, 1e4, -1e4]).reshape(1, 2, 2, 1)
        targets = jnp.array([0.0, 1.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
        value, grad = jax.value_and_grad(lambda x: cross_entropy.bce(x, targets)[0])(logits)
        np.testing.assert_allclose(value, 5e3)
        np.testing.assert_allclose(grad.ravel(), [0, 0, 0.25, -0.25])

    @parameterized.parameters([(1, 2, 2, 1)], [(1, 1, 2, 2, 1)])
    def test_floor_is_the_entropy_of_soft_targets(self, shape):
        targets = np.array([0, 125 / 255, 1, 0.1], np.float32).reshape(shape)
        p = targets.astype(np.float64)
        want = (special.entr(p) + special.entr(1 - p)).mean()
        np.testing.assert_allclose(cross_entropy.bce_floor(targets), [want], rtol=1e-6)

    def test_the_floor_is_reached_by_the_right_logits_and_by_no_others(self):
        targets = np.array([0.2, 0.5, 0.7, 0.9], np.float32).reshape(1, 2, 2, 1)
        logits = special.logit(targets)
        floor = cross_entropy.bce_floor(targets)
        np.testing.assert_allclose(cross_entropy.bce(logits, targets), floor, rtol=1e-6)
        assert float(cross_entropy.bce(logits + 0.3, targets)[0]) > float(floor[0])

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match="must agree"):
            cross_entropy.bce(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2)))
