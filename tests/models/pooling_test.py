"""Max-pooling against Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import pooling


class MaxPoolTest(parameterized.TestCase):
    @parameterized.product(shape=[(1, 2, 2, 1), (2, 6, 10, 3)], ties=[False, True])
    def test_value_and_gradient_equal_flax_max_pool(self, shape, ties):
        rng = np.random.default_rng(0)
        # Few whole numbers: most windows have several largest values.
        x = rng.integers(0, 2, shape).astype(np.float32) if ties else rng.normal(size=shape)
        x = jnp.asarray(x, jnp.float32)
        pooled = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
        weights = jnp.asarray(rng.normal(size=pooled), jnp.float32)

        def textbook(x):
            return jnp.sum(weights * nn.max_pool(x, (2, 2), strides=(2, 2)))

        def fast(x):
            return jnp.sum(weights * pooling.max_pool_2x2(x))

        want, want_grad = jax.value_and_grad(textbook)(x)
        got, got_grad = jax.value_and_grad(fast)(x)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_array_equal(got_grad, want_grad)
