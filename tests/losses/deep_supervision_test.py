"""The loss of several outputs."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.losses import cross_entropy, deep_supervision


def outputs(count):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(2, 4, 4, 1)), jnp.float32) for _ in range(count))


def masks():
    return jnp.asarray(np.random.default_rng(1).random((2, 4, 4, 1)) > 0.5, jnp.float32)


class WeightedTest(parameterized.TestCase):
    def test_one_array_has_the_loss_itself(self):
        (logits,) = outputs(1)
        got = deep_supervision.weighted(cross_entropy.bce, logits, masks())
        np.testing.assert_array_equal(got, cross_entropy.bce(logits, masks()))

    @parameterized.parameters(
        (2, (0.5, 0.5)), (3, (0.5, 0.25, 0.25)), (4, (1 / 2, 1 / 6, 1 / 6, 1 / 6))
    )
    def test_the_last_weighs_half_and_the_others_share_the_rest(self, count, weights):
        logits = outputs(count)
        got = jax.jit(lambda *each: deep_supervision.weighted(cross_entropy.bce, each, masks()))(
            *logits
        )
        want = np.zeros(2)
        for weight, each in zip(weights, logits, strict=True):
            probs = 1 / (1 + np.exp(-np.asarray(each, np.float64)))
            right = np.where(np.asarray(masks()) > 0, probs, 1 - probs)
            want += weight * -np.log(right).mean((1, 2, 3))
        np.testing.assert_allclose(got, want, rtol=1e-5)

    def test_every_sample_keeps_its_own_loss(self):
        """[B], by hand: 0.5 * 2 + 0.5 * (4 + 6) / 2 for the first."""
        final, *others = (jnp.asarray([a, b]) for a, b in ((2.0, 1.0), (4.0, 0.0), (6.0, 0.0)))
        got = deep_supervision.weighted(lambda y, t: y - t, (final, *others), jnp.zeros(2))
        np.testing.assert_array_equal(got, [3.5, 0.5])
