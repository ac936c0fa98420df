"""The U-Net of Nguyen Xuan Minh Vu."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.models import unet


def make(widths=(4, 8, 16), **kwargs):
    settings = dict(num_classes=1, head_norm=True, pad_input=False, dtype="float32") | kwargs
    return unet.UNet(widths=widths, **settings)


def init(model, images):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)


def apply(model, variables, images):
    return jax.jit(functools.partial(model.apply, train=False))(variables, images)


def count_by_hand(widths):
    """Parameters of convolutions without bias, BatchNorms and up-convolutions with bias."""

    def double(before, after):
        return 9 * before * after + 9 * after * after + 2 * 2 * after

    total = 0
    before = 1
    for width in widths:
        total += double(before, width)
        before = width
    for wide, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
        total += 4 * wide * width + width + double(2 * width, width)
    return total + widths[0] + 2


class UNetTest(parameterized.TestCase):
    @parameterized.parameters({"widths": (4, 8, 16)}, {"widths": (64, 128, 256, 512, 1024)})
    def test_parameters_are_those_counted_by_hand(self, widths):
        shapes = jax.eval_shape(
            lambda rng: make(widths).init(rng, jnp.zeros((1, 16, 16, 1)), train=False),
            jax.random.key(0),
        )
        got = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        assert got == count_by_hand(widths)

    @parameterized.parameters((4, 4), (8, 12), (64, 32))
    def test_any_multiple_keeps_its_size(self, height, width):
        out = jax.eval_shape(
            lambda rng: make().init_with_output(rng, jnp.zeros((2, height, width, 1)), train=False)[
                0
            ],
            jax.random.key(0),
        )
        assert out.shape == (2, height, width, 1)
        assert out.dtype == jnp.float32

    def test_another_size_is_an_error_that_says_what_would_do(self):
        with pytest.raises(ValueError, match=r"30 x 32, want multiples of 4 x 4.*pad_input"):
            make().init(jax.random.key(0), jnp.zeros((1, 30, 32, 1)), train=False)

    def test_padding_gives_what_the_padded_image_gives(self):
        images = jnp.asarray(np.random.default_rng(0).random((1, 30, 29, 1), np.float32))
        padded = jnp.pad(images, ((0, 0), (0, 2), (0, 3), (0, 0)), mode="edge")
        variables = init(make(), padded)
        got = apply(make(pad_input=True), variables, images)
        want = apply(make(), variables, padded)[:, :30, :29]
        assert got.shape == (1, 30, 29, 1)
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_without_its_norm_the_head_has_a_bias(self):
        images, model = jnp.zeros((1, 8, 8, 1)), make(head_norm=False)
        shapes = jax.eval_shape(
            functools.partial(model.init, train=False), jax.random.key(0), images
        )
        params = shapes["params"]
        assert "bias" in params["head"]
        assert "head_norm" not in params

    def test_logits_of_a_batch_are_normalised_by_the_last_layer(self):
        images = jnp.asarray(np.random.default_rng(0).random((4, 16, 16, 1), np.float32))
        model = make(widths=(4, 8))
        apply_fn = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        logits, _ = jax.jit(apply_fn)(init(model, images), images)
        np.testing.assert_allclose(logits.mean(), 0, atol=1e-3)
        np.testing.assert_allclose(logits.std(), 1, atol=1e-2)

    def test_bfloat16_is_near_float32_and_keeps_parameters_and_statistics_float32(self):
        images = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 1), np.float32))
        model, half = make(widths=(4, 8)), make(widths=(4, 8), dtype="bfloat16")
        shapes = jax.eval_shape(
            functools.partial(half.init, train=False), jax.random.key(0), images
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("f4")}
        variables = init(model, images)
        got = apply(half, variables, images)
        want = apply(model, variables, images)
        assert got.dtype == jnp.float32
        # bfloat16 has 8 bits of mantissa; six convolutions add up to a few of its steps.
        np.testing.assert_allclose(got, want, atol=0.05 * float(jnp.abs(want).max()))
        assert float(jnp.abs(got - want).max()) > 0

    def test_every_output_sees_the_whole_receptive_field(self):
        """The gradient of one output pixel reaches as far as the bottleneck sees."""
        model = make(widths=(4, 8))
        images = jnp.asarray(np.random.default_rng(0).random((1, 64, 64, 1), np.float32))
        variables = init(model, images)
        pixel = jax.grad(lambda x: model.apply(variables, x, train=False)[0, 32, 32, 0])
        grad = jax.jit(pixel)(images)
        rows = np.flatnonzero(np.abs(grad[0, :, :, 0]).sum(1))
        # Two 3 x 3 convolutions at scale 1, at scale 2 and at scale 1 again.
        assert rows.max() - rows.min() > 2 * (2 + 4)
        assert rows.max() - rows.min() <= 2 * (2 + 4 + 2) + 2
