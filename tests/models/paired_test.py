"""Layers on columns in pairs against the same layers on single columns."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.models import layers, paired, pooling, residual_unet, unet


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


class PairsTest(parameterized.TestCase):
    def test_unpair_undoes_pair(self):
        images = normal(2, 4, 6, 3)
        paired_images = paired.pair(images)
        np.testing.assert_array_equal(paired_images[0, 1, 2, 3:], images[0, 1, 5])
        np.testing.assert_array_equal(paired.unpair(paired_images), images)

    def test_pooling_returns_single_columns(self):
        images = normal(2, 4, 6, 3)
        got = paired.max_pool_2x2(paired.pair(images))
        np.testing.assert_array_equal(got, pooling.max_pool_2x2(images))

    def test_up_convolution_equals_the_one_on_single_columns(self):
        x, weights = normal(2, 3, 5, 4), normal(2, 6, 10, 3, seed=1)
        kernel = normal(2, 2, 4, 3, seed=2)

        def loss(up, x, kernel):
            return jnp.sum(weights * up(x, kernel))

        want = functools.partial(loss, layers.up_by_products)
        for up in (lambda *args: paired.unpair(paired.up_conv_2x2(*args)), layers.up_dilated):
            assert_equal_gradients(functools.partial(loss, up), want, x, kernel)

    @parameterized.product(size=[1, 3], use_bias=[False, True])
    def test_convolution_of_parts_equals_flax_on_their_concatenation(self, size, use_bias):
        parts = normal(2, 4, 6, 3), normal(2, 4, 6, 2, seed=1)
        textbook = nn.Conv(5, (size, size), use_bias=use_bias)
        variables = textbook.init(jax.random.key(0), jnp.concatenate(parts, axis=-1))
        layer = paired.Conv(5, size, use_bias, "float32")
        weights = normal(2, 4, 6, 5, seed=2)

        def want(variables, parts):
            return jnp.sum(weights * textbook.apply(variables, jnp.concatenate(parts, axis=-1)))

        def got(variables, parts):
            y = layer.apply(variables, [paired.pair(part) for part in parts])
            return jnp.sum(weights * paired.unpair(y))

        assert_equal_gradients(got, want, variables, parts)

    @parameterized.parameters(True, False)
    def test_batch_norm_equals_flax(self, still):
        x, weights = 3 + normal(2, 4, 6, 3), normal(2, 4, 6, 3, seed=1)
        textbook = nn.BatchNorm(momentum=0.9, epsilon=1e-5)
        variables = textbook.init(jax.random.key(0), x, use_running_average=False)
        params = {"scale": 1 + normal(3), "bias": normal(3, seed=2)}
        layer = paired.BatchNorm()

        def run(norm, before, after, params, x):
            y, updated = norm.apply(
                {"params": params, "batch_stats": variables["batch_stats"]},
                before(x),
                use_running_average=still,
                mutable=["batch_stats"],
            )
            return jnp.sum(weights * after(y)), updated

        want = functools.partial(run, textbook, jnp.asarray, jnp.asarray)
        got = functools.partial(run, layer, paired.pair, paired.unpair)
        assert_equal_gradients(got, want, params, x, has_aux=True)


class NetworkTest(parameterized.TestCase):
    """A network whose finest level is in pairs against the same network without pairs."""

    @parameterized.parameters((unet.UNet, True), (residual_unet.ResidualUNet, False))
    def test_parameters_values_and_gradients_are_equal(self, network, head_norm):
        plain = network((6, 8), 1, head_norm=head_norm, pad_input=True, dtype="float32")
        images, weights = normal(2, 6, 9, 1), normal(2, 6, 9, 1, seed=1)
        in_pairs = plain.for_platform("tpu")
        assert in_pairs.in_pairs
        init = functools.partial(plain.init, train=False)
        variables = jax.jit(init)(jax.random.key(0), images)
        init = functools.partial(in_pairs.init, train=False)
        same = jax.jit(init)(jax.random.key(0), images)
        jax.tree.map(np.testing.assert_array_equal, same, variables)

        def run(model, params, images):
            y, updated = model.apply(
                {"params": params, "batch_stats": variables.get("batch_stats", {})},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.sum(weights * y), updated

        want, got = (functools.partial(run, model) for model in (plain, in_pairs))
        assert_equal_gradients(got, want, variables["params"], images, has_aux=True)

    def test_bfloat16_is_as_near_to_float32_as_without_pairs(self):
        images = normal(2, 16, 32, 1)
        exact = unet.UNet((16, 32), 1, head_norm=False, pad_input=False, dtype="float32")
        variables = exact.init(jax.random.key(0), images, train=False)
        plain = exact.clone(dtype="bfloat16")

        def run(model):
            return jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))(
                variables, images
            )[0]

        want = run(exact)
        errors = [
            np.sqrt(np.mean((run(model) - want) ** 2))
            for model in (plain, plain.for_platform("tpu"))
        ]
        assert errors[1] < 1.1 * errors[0]  # Rounding differs; it is not worse.

    def test_other_platforms_and_wide_levels_have_none(self):
        narrow = unet.UNet((64, 128), 1, head_norm=False, pad_input=False, dtype="float32")
        assert not narrow.for_platform("gpu").in_pairs
        assert not narrow.for_platform("cpu").in_pairs
        assert not narrow.clone(widths=(128, 256)).for_platform("tpu").in_pairs


def assert_equal_gradients(got, want, *args, has_aux=False):
    """Asserts that two functions of floats have equal values, outputs and gradients."""
    run = functools.partial(jax.value_and_grad, argnums=tuple(range(len(args))), has_aux=has_aux)
    got, want = (jax.jit(run(function))(*args) for function in (got, want))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), got, want)
