"""Counts by paper and pencil, and XLA's where it sees everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.benchmark import flops


def count(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return flops.count(jax.jit(function).trace(*args).jaxpr.jaxpr)


def xla_count(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


def convolve(x, kernel, strides=(1, 1), padding="VALID", dilation=(1, 1), groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def test_a_matrix_product_by_hand():
    assert count(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert count(jnp.matmul, (4, 3, 5), (4, 5, 7)) == 4 * 2 * 3 * 5 * 7


def test_a_convolution_by_hand():
    # 2 images, 4 x 5 outputs, 3 x 3 x 6 inputs to each of 7 channels.
    assert count(convolve, (2, 6, 7, 6), (3, 3, 6, 7)) == 2 * 2 * 4 * 5 * 9 * 6 * 7
    # Padded: of 3 x 4 taps along an axis of 4, two meet padding.
    assert (
        count(lambda x, k: convolve(x, k, padding="SAME"), (1, 4, 4, 1), (3, 3, 1, 1))
        == 2 * (12 - 2) ** 2
    )


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(padding="SAME"),
        dict(strides=(2, 2), padding="SAME"),
        dict(dilation=(2, 3), padding="SAME"),
        dict(strides=(2, 1), padding=((1, 0), (0, 2))),
    ],
)
def test_convolutions_and_their_gradients_count_as_xla_counts_them(options):
    shapes = (2, 9, 8, 4), (3, 3, 4, 6)

    def forward(x, kernel):
        return convolve(x, kernel, **options)

    def gradients(x, kernel):
        out, pull_back = jax.vjp(forward, x, kernel)
        return out, pull_back(jnp.ones_like(out))

    assert count(forward, *shapes) == xla_count(forward, *shapes)
    # Beside products XLA counts a few additions and the ones.
    assert count(gradients, *shapes) == pytest.approx(xla_count(gradients, *shapes), rel=0.01)
    assert count(gradients, *shapes) == 3 * count(forward, *shapes)


def test_groups_divide_the_work():
    grouped = count(lambda x, k: convolve(x, k, groups=4), (1, 8, 8, 8), (3, 3, 2, 8))
    assert grouped == count(convolve, (1, 8, 8, 8), (3, 3, 8, 8)) / 4

    def gradient(x, kernel):
        return jax.grad(lambda k: convolve(x, k, groups=4).sum())(kernel)

    # Its forward result is not needed, but is in the program.
    assert count(gradient, (1, 8, 8, 8), (3, 3, 2, 8)) == 2 * grouped


def test_a_loop_counts_as_often_as_it_runs_and_calls_count_inside():
    @jax.jit
    def square(x):
        return x @ x

    def loop(x):
        return jax.lax.scan(lambda x, _: (jax.checkpoint(square)(x), None), x, None, length=7)[0]

    assert count(loop, (4, 4)) == 7 * 2 * 4**3


def test_the_larger_branch_counts():
    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count(branch, (4, 4)) == 2 * 2 * 4**3
