"""The fast forms of layers against their textbook forms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import layers
from tests.models import by_hand, gpu_forms


def whole_numbers(*shape):
    """From -3 to 3: products and sums of these are exact in any precision of a multiplication."""
    return jnp.asarray(np.random.default_rng(0).integers(-3, 4, size=shape).astype(np.float32))


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


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


class UpsampleTest(parameterized.TestCase):
    def test_repeats_every_pixel_in_both_directions(self):
        x = normal(2, 3, 5, 4)
        want = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
        np.testing.assert_array_equal(layers.upsample(x, (2, 2)), want)

    def test_gradient_is_the_sum_over_each_window(self):
        weights = whole_numbers(1, 6, 10, 4)
        got = jax.grad(lambda x: jnp.sum(weights * layers.upsample(x, (2, 2))))(normal(1, 3, 5, 4))
        want = sum(weights[:, a::2, b::2] for a in (0, 1) for b in (0, 1))
        np.testing.assert_array_equal(got, want)

    def test_gray_is_repeated(self):
        x = normal(2, 3, 5, 1)
        np.testing.assert_array_equal(layers.repeat_channel(x, 3), np.repeat(x, 3, axis=-1))


class StridedConvTest(parameterized.TestCase):
    @parameterized.parameters((8, 6), (2, 4), (7, 5))
    def test_same_padding_is_kerass(self, height, width):
        x = whole_numbers(2, height, width, 3)
        kernel, bias = whole_numbers(3, 3, 3, 4), whole_numbers(4)
        layer = nn.Conv(4, (3, 3), strides=(2, 2), padding="SAME")
        params = {"kernel": kernel, "bias": bias}
        got = layer.apply({"params": params}, x)
        np.testing.assert_array_equal(got, by_hand.conv(np.asarray(x), params, stride=2))

    def test_stride_two_starts_at_the_first_pixel_of_an_even_size(self):
        """By hand, of 1, 2, 3, 4 with the taps 1, 10, 100: 1 + 20 + 300, and 3 + 40 + 0."""
        x = jnp.zeros((1, 4, 4, 1)).at[0, 0, :, 0].set(jnp.arange(1.0, 5.0))
        kernel = jnp.zeros((3, 3, 1, 1)).at[0, :, 0, 0].set(jnp.asarray([1.0, 10.0, 100.0]))
        layer = nn.Conv(1, (3, 3), strides=(2, 2), padding="SAME", use_bias=False)
        out = layer.apply({"params": {"kernel": kernel}}, x)
        np.testing.assert_array_equal(out[0, 0, :, 0], [321.0, 43.0])


class UpsampleConvTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.x = whole_numbers(2, 3, 5, 4)
        self.layer = layers.UpsampleConv2x2(features=6)
        self.params = {"kernel": whole_numbers(2, 2, 4, 6), "bias": whole_numbers(6)}

    def test_value_equals_kerass_worked_by_hand(self):
        got = self.layer.apply({"params": self.params}, self.x)
        want = by_hand.conv(by_hand.upsample(np.asarray(self.x)), self.params)
        np.testing.assert_array_equal(got, want)

    def test_gradients_equal_those_of_the_textbook_form(self):
        weights = whole_numbers(2, 6, 10, 6)

        def fast(params, x):
            return jnp.sum(weights * self.layer.apply({"params": params}, x))

        def textbook(params, x):
            up = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            return jnp.sum(weights * nn.Conv(6, (2, 2)).apply({"params": params}, up))

        got = jax.jit(jax.grad(fast, argnums=(0, 1)))(self.params, self.x)
        want = jax.jit(jax.grad(textbook, argnums=(0, 1)))(self.params, self.x)
        jax.tree.map(np.testing.assert_array_equal, got, want)

    def test_parameters_are_those_of_the_textbook_form(self):
        init_fn = jax.jit(layers.UpsampleConv2x2(60).init)
        got = init_fn(jax.random.key(0), jnp.zeros((1, 2, 2, 50)))["params"]
        assert jax.tree.map(jnp.shape, got) == {"kernel": (2, 2, 50, 60), "bias": (60,)}
        # Keras's fan-in is that of the kernel: 2 x 2 x 50.
        np.testing.assert_allclose(got["kernel"].std(), np.sqrt(2 / 200), rtol=0.02)

    def test_bfloat16_computes_in_bfloat16(self):
        layer = layers.UpsampleConv2x2(features=6, dtype="bfloat16")
        out = jax.eval_shape(layer.apply, {"params": self.params}, self.x)
        assert out.dtype == jnp.bfloat16


class ResidualDoubleConvTest(parameterized.TestCase):
    def test_a_block_whose_last_scale_is_zero_is_its_shortcut(self):
        x = normal(1, 4, 4, 3)
        layer = layers.ResidualDoubleConv(features=3)
        init_fn = jax.jit(functools.partial(layer.init, train=False))
        variables = init_fn(jax.random.key(0), x)
        params = variables["params"]
        assert set(params) == {"conv_0", "conv_1", "norm_0", "norm_1"}
        params["norm_1"]["scale"] = jnp.zeros(3)
        got = layer.apply(variables | {"params": params}, x, train=False)
        np.testing.assert_array_equal(got, jnp.maximum(x, 0))


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


class PixelDenseTest(parameterized.TestCase):
    @parameterized.product(dtype=["float32", "bfloat16"], form=["default", "cuda"])
    def test_value_parameters_and_gradients_equal_a_1_x_1_convolution(self, dtype, form):
        self.enter_context(gpu_forms.use(form))
        x = normal(2, 3, 5, 4).astype(dtype)
        ours = layers.PixelDense(2, True, dtype)
        textbook = nn.Conv(2, (1, 1), dtype="float32")
        params = ours.init(jax.random.key(0), x)["params"]
        jax.tree.map(
            np.testing.assert_array_equal, params, textbook.init(jax.random.key(0), x)["params"]
        )
        params = jax.tree.map(lambda leaf: leaf.astype(dtype).astype("float32"), params)
        weights = normal(2, 3, 5, 2)

        def loss(layer, params, x):
            y = layer.apply({"params": params}, x)
            return jnp.sum(weights * y), y

        grad_fn = jax.grad(loss, argnums=(1, 2), has_aux=True)
        got = jax.jit(functools.partial(grad_fn, ours))(params, x)
        want = jax.jit(functools.partial(grad_fn, textbook))(params, x)
        assert got[1].dtype == jnp.float32
        tol = 1e-5 if dtype == "float32" else 0.02  # Gradients are rounded to bfloat16.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a.astype("float32"), b.astype("float32"), rtol=tol, atol=tol
            ),
            got,
            want,
        )
