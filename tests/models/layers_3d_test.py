"""The blocks of volumes against their definitions, one by one."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.models import fv_block, layers, layers_3d, network, paspp
from tests.models import by_hand_3d, networks

ONES = (1, 1, 1)
RATES = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8))


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def check_block(block, by_hand, shape):
    """Values with running and with the batch's statistics; a gradient for every parameter."""
    x = normal(*shape)
    variables = networks.init(block, x)
    params, stats = variables["params"], variables["batch_stats"]
    weights = np.random.default_rng(2).normal(size=shape[:1]).astype(np.float32)

    @jax.jit
    def calls(params):
        def train(params):
            both = {"params": params, "batch_stats": stats}
            out, updated = block.apply(both, x, train=True, mutable=["batch_stats"])
            by_sample = jnp.sum(jnp.square(out), axis=(1, 2, 3, 4))
            return jnp.sum(weights * by_sample), (out, updated["batch_stats"])

        grads, (trained, moved) = jax.grad(train, has_aux=True)(params)
        return block.apply(variables, x, train=False), trained, moved, grads

    with jax.default_matmul_precision("highest"):
        predicted, trained, moved, grads = calls(params)
    exact = np.asarray(x, np.float64)
    for got, want in (
        (predicted, by_hand(exact, params, stats)),
        (trained, by_hand(exact, params, None)),
    ):
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, stats, moved)))
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(grads))
    half = block.clone(dtype="bfloat16")
    assert networks.abstract(half, shape, "init_with_output")[0].dtype == jnp.bfloat16


class Conv3x3x3Test(parameterized.TestCase):
    @parameterized.product(
        strides=[ONES, (1, 2, 2), (2, 1, 1)],
        rates=[ONES, (2, 8, 8)],
        shape=[(2, 5, 6, 7, 3)],
    )
    def test_value_is_the_sum_over_taps(self, strides, rates, shape):
        x = normal(*shape)
        layer = layers_3d.Conv3x3x3(4, strides, rates)
        params = {"kernel": normal(3, 3, 3, 3, 4), "bias": normal(4)}
        got = jax.jit(layer.apply)({"params": params}, x)
        want = by_hand_3d.conv(np.asarray(x, np.float64), params, strides, rates)
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())

    @parameterized.parameters(
        (ONES, ONES), ((1, 2, 2), ONES), ((2, 2, 2), ONES), *((ONES, rates) for rates in RATES[1:])
    )
    def test_the_cpus_form_has_the_value_and_gradients_of_a_3d_convolution(self, strides, rates):
        """Both forms at once: `nn.Conv` is what other devices run."""
        x = normal(2, 4, 6, 6, 3)
        ours = layers_3d.Conv3x3x3(4, strides, rates)
        textbook = nn.Conv(4, (3, 3, 3), strides, [(r, r) for r in rates], kernel_dilation=rates)
        params = {"kernel": normal(3, 3, 3, 3, 4), "bias": normal(4)}
        weights = normal(*ours.apply({"params": params}, x).shape)

        def weighted(layer, params, x):
            return jnp.sum(weights * layer.apply({"params": params}, x))

        got, want = (
            jax.jit(jax.value_and_grad(functools.partial(weighted, layer), argnums=(0, 1)))(
                params, x
            )
            for layer in (ours, textbook)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-4), got, want)

    def test_parameters_are_those_of_a_3d_convolution(self):
        both = layers_3d.Conv3x3x3(40), nn.Conv(40, (3, 3, 3))
        x = jnp.zeros((1, 2, 2, 2, 50))
        ours, textbook = (jax.jit(layer.init)(jax.random.key(0), x) for layer in both)
        assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, textbook)
        np.testing.assert_allclose(ours["params"]["kernel"].std(), np.sqrt(2 / 1350), rtol=0.02)

    @parameterized.parameters("cpu", "cuda", "tpu")
    def test_only_a_cpu_gets_the_2d_form_and_it_gets_no_other(self, platform):
        def squares(x, kernel):
            return jnp.sum(layers_3d.conv_3x3x3(x, kernel, ONES, ONES) ** 2)

        traced = jax.jit(jax.grad(squares, (0, 1))).trace(
            normal(1, 4, 4, 4, 3), normal(3, 3, 3, 3, 4)
        )
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        # Forward, and the gradients of both arguments.
        assert text.count("stablehlo.convolution") == 3
        assert ("[b, 0, 1, 2, f]" in text) == (platform != "cpu")
        assert ("[b, 0, 1, f]" in text) == (platform == "cpu")


class Conv1x1x1Test(parameterized.TestCase):
    @parameterized.parameters(1, 3)
    def test_is_a_dense_layer_in_values_gradients_and_parameters(self, channels):
        x, weights = normal(2, 3, 4, 5, channels), normal(2, 3, 4, 5, 6)
        he = nn.initializers.he_normal()
        ours, textbook = layers_3d.Conv1x1x1(6), nn.Dense(6, use_bias=False, kernel_init=he)
        variables = textbook.init(jax.random.key(0), x)
        same = ours.init(jax.random.key(0), x)
        jax.tree.map(np.testing.assert_array_equal, same, variables)

        def grads(layer):
            loss = lambda v, x: jnp.sum(weights * layer.apply(v, x))  # noqa: E731
            return layer.apply(variables, x), jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, x)

        got, want = grads(ours), grads(textbook)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), got, want)


class ConcatenateTest(parameterized.TestCase):
    def test_a_block_of_two_inputs_is_that_of_their_concatenation(self):
        """Values, and gradients for the inputs and all parameters."""
        a, b, block = normal(2, 4, 4, 6, 3), 2 * normal(2, 4, 4, 6, 5), layers_3d.ResidualBlock(4)
        joined = jnp.concatenate([a, b], axis=-1)
        variables = jax.jit(functools.partial(block.init, train=True))(jax.random.key(0), joined)

        def loss(variables, *inputs):
            y, _ = block.apply(variables, *inputs, train=True, mutable=["batch_stats"])
            return jnp.sum(y**3)

        got, (by_variables, by_a, by_b) = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(
            variables, a, b
        )
        want, (want_variables, by_joined) = jax.jit(jax.value_and_grad(loss, (0, 1)))(
            variables, joined
        )
        pairs = (
            (got, by_variables, jnp.concatenate([by_a, by_b], -1)),
            (want, want_variables, by_joined),
        )
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), *pairs)


class UpConv3DTest(parameterized.TestCase):
    @parameterized.parameters(((1, 2, 2),), ((2, 2, 2),), ((2, 1, 2),), (ONES,))
    def test_value_and_gradients_are_those_of_the_adjoint_of_a_strided_convolution(self, strides):
        x = normal(2, 3, 2, 4, 5)
        layer = layers_3d.UpConv3D(6, strides)
        params = {"kernel": normal(*strides, 5, 6), "bias": normal(6)}
        want = by_hand_3d.up_conv(np.asarray(x, np.float64), params)
        got = jax.jit(layer.apply)({"params": params}, x)
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())

        def strided(y, kernel):
            kernel = kernel.transpose(0, 1, 2, 4, 3)
            axes = ("NDHWC", "DHWIO", "NDHWC")
            return jax.lax.conv_general_dilated(y, kernel, strides, "VALID", dimension_numbers=axes)

        def transposed(params, x):
            _, adjoint = jax.vjp(lambda y: strided(y, params["kernel"]), jnp.zeros(want.shape))
            return adjoint(x)[0] + params["bias"].reshape(1, 1, 1, 1, -1)

        def grads(fn):
            loss = lambda params, x: jnp.sum(normal(*want.shape) * fn(params, x))  # noqa: E731
            return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

        got = grads(lambda params, x: layer.apply({"params": params}, x))
        want_grads = grads(transposed)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, want_grads)

    def test_starts_with_the_variance_of_one_voxels_fan_in(self):
        init_fn = jax.jit(layers_3d.UpConv3D(60, (2, 2, 2)).init)
        kernel = init_fn(jax.random.key(0), jnp.zeros((1, 1, 1, 1, 50)))["params"]["kernel"]
        assert kernel.shape == (2, 2, 2, 50, 60)
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 50), rtol=0.02)


class UpsampleTest(parameterized.TestCase):
    @parameterized.parameters(((1, 2, 2),), ((2, 4, 4),), ((3, 1, 2),))
    def test_repeats_every_voxel(self, factors):
        x = normal(2, 3, 2, 4, 2)
        want = by_hand_3d.upsample(np.asarray(x), factors)
        np.testing.assert_array_equal(layers.upsample(x, factors), want)

    @parameterized.parameters(((1, 2, 2),), ((2, 4, 4),))
    def test_conv_then_upsample_is_upsample_then_conv(self, factors):
        x, conv = normal(2, 2, 3, 3, 8), nn.Conv(2, (1, 1, 1))
        params = {"params": {"kernel": normal(1, 1, 1, 8, 2), "bias": normal(2)}}

        def before(x):
            return layers.upsample(conv.apply(params, x), factors)

        def after(x):
            return conv.apply(params, layers.upsample(x, factors))

        np.testing.assert_allclose(before(x), after(x), atol=1e-6)
        weights = normal(*before(x).shape)
        got, want = (jax.grad(lambda x, f=f: jnp.sum(weights * f(x)))(x) for f in (before, after))
        np.testing.assert_allclose(got, want, atol=1e-4)


class BlocksTest(parameterized.TestCase):
    @parameterized.parameters((4, ONES), (4, (2, 2, 2)), (6, (1, 2, 2)))
    def test_residual_block(self, features, strides):
        block = layers_3d.ResidualBlock(features, strides)
        by_hand = functools.partial(by_hand_3d.residual, strides=strides)
        check_block(block, by_hand, (2, 4, 4, 6, 4))
        params = networks.abstract(block, (2, 4, 4, 6, 4))["params"]
        assert ("shortcut" in params) == (features != 4 or strides != ONES)

    @parameterized.parameters("se", "ce")
    def test_feature_variation_block(self, attention):
        block = fv_block.FVBlock(attention)
        check_block(block, by_hand_3d.feature_variation, (3, 3, 4, 5, 6))
        gates = networks.layer_shapes(block, (3, 3, 4, 5, 6))["gate"]
        assert gates == (3, 1, 1, 1, {"se": 6, "ce": 1}[attention])

    @parameterized.product(attention=["se", "ce"], reduction=[1, 3, 6])
    def test_a_gate_has_as_many_hidden_units_as_r_leaves(self, attention, reduction):
        block = fv_block.FVBlock(attention, reduction)
        gate = networks.abstract(block, (3, 3, 4, 5, 6))["params"]["gate"]
        assert gate["squeeze"]["kernel"].shape == (6, 6 // reduction)

    def test_paspp(self):
        by_hand = functools.partial(by_hand_3d.pyramid, rates=RATES)
        check_block(paspp.PASPP(RATES), by_hand, (2, 3, 10, 9, 8))

    def test_the_gate_of_a_bfloat16_block_is_a_float32_mean(self):
        """256 + 1 is 256 in bfloat16: adding up there would stop at 256 ones."""
        x = jnp.ones((1, 8, 64, 64, 2), jnp.bfloat16)
        gate = fv_block.ChannelGate(1)
        params = {
            "squeeze": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)},
            "excite": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
        }
        got = jax.jit(gate.apply)({"params": params}, x)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got.ravel(), [1 / (1 + np.exp(-2))], rtol=1e-6)


class SizesTest(parameterized.TestCase):
    def test_strides_multiply_along_each_axis(self):
        assert layers_3d.total_strides([(1, 2, 2), (2, 2, 1)]) == (2, 4, 2)
        assert layers_3d.total_strides([]) == ONES

    def test_another_size_is_an_error_that_says_what_would_do(self):
        with pytest.raises(ValueError, match=r"got volumes of 3 x 8 x 8, want .* 2 x 4 x 4; do it"):
            network.require_multiples(jnp.zeros((1, 3, 8, 8, 1)), (2, 4, 4), "do it")
        network.require_multiples(jnp.zeros((1, 4, 8, 8, 1)), (2, 4, 4), "do it")
