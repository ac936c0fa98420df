"""The fast forms of layers against their textbook forms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import layers


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


class MaxPoolTest(parameterized.TestCase):
    @parameterized.parameters([(1, 2, 2, 1)], [(2, 6, 10, 3)])
    def test_value_and_gradient_equal_flax_max_pool(self, shape):
        x = normal(*shape)
        weights = normal(shape[0], shape[1] // 2, shape[2] // 2, shape[3])

        def textbook(x):
            return jnp.sum(weights * nn.max_pool(x, (2, 2), strides=(2, 2)))

        def fast(x):
            return jnp.sum(weights * layers.max_pool_2x2(x))

        want, want_grad = jax.value_and_grad(textbook)(x)
        got, got_grad = jax.value_and_grad(fast)(x)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(got_grad, want_grad, rtol=1e-6)

    def test_tied_values_share_the_gradient(self):
        grad = jax.grad(lambda x: layers.max_pool_2x2(x).sum())(jnp.ones((1, 2, 2, 1)))
        np.testing.assert_allclose(grad.sum(), 1.0)


class UpConvTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x = normal(2, 3, 5, 4)
        self.layer = layers.UpConv2x2(features=6)
        self.params = self.layer.init(jax.random.key(0), self.x)["params"]
        self.params["bias"] = normal(6)

    def transposed(self, params, x):
        """The adjoint of a 2 x 2 convolution with stride 2: what "transposed" means."""

        def strided(y):
            # The convolution from 6 to 4 channels whose kernel is indexed [y, x, out, in].
            kernel = params["kernel"].transpose(0, 1, 3, 2)
            return jax.lax.conv_general_dilated(
                y, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        batch, height, width, _ = x.shape
        like = jnp.zeros((batch, 2 * height, 2 * width, 6))
        _, adjoint = jax.vjp(strided, like)
        return adjoint(x)[0] + params["bias"].reshape(1, 1, 1, -1)

    def test_value_equals_the_adjoint_of_a_strided_convolution(self):
        got = self.layer.apply({"params": self.params}, self.x)
        np.testing.assert_allclose(got, self.transposed(self.params, self.x), atol=1e-5)

    def test_gradients_equal_those_of_the_adjoint(self):
        weights = normal(2, 6, 10, 6)

        def fast(params, x):
            return jnp.sum(weights * self.layer.apply({"params": params}, x))

        def textbook(params, x):
            return jnp.sum(weights * self.transposed(params, x))

        got = jax.grad(fast, argnums=(0, 1))(self.params, self.x)
        want = jax.grad(textbook, argnums=(0, 1))(self.params, self.x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, want)

    def test_each_pixel_becomes_its_own_window(self):
        x = jnp.zeros((1, 2, 2, 4)).at[0, 1, 0].set(1.0)
        params = self.params | {"bias": jnp.zeros(6)}
        out = self.layer.apply({"params": params}, x)
        np.testing.assert_allclose(out[0, 2:, :2], params["kernel"].sum(2), atol=1e-5)
        assert float(jnp.abs(out).sum() - jnp.abs(out[0, 2:, :2]).sum()) == 0.0

    def test_bfloat16_computes_in_bfloat16_with_float32_parameters(self):
        layer = layers.UpConv2x2(features=6, dtype="bfloat16")
        out = layer.apply({"params": self.params}, self.x)
        assert out.dtype == jnp.bfloat16
        assert self.params["kernel"].dtype == jnp.float32


class DoubleConvTest(parameterized.TestCase):
    def test_training_normalises_each_channel_before_the_relu(self):
        x = normal(4, 8, 8, 3)
        layer = layers.DoubleConv(features=5)
        variables = jax.jit(functools.partial(layer.init, train=False))(jax.random.key(0), x)
        apply_fn = functools.partial(layer.apply, train=True, mutable=["batch_stats"])
        out, updated = jax.jit(apply_fn)(variables, x)
        # A standard normal after ReLU has mean 1 / sqrt(2 pi); that of a few values is near it.
        np.testing.assert_allclose(out.mean((0, 1, 2)), 0.399, atol=0.06)
        moved = jax.tree.map(
            lambda a, b: bool(jnp.any(a != b)), variables["batch_stats"], updated["batch_stats"]
        )
        assert all(jax.tree.leaves(moved))
