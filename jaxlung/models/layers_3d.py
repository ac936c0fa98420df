"""Layers for volumes [B, D, H, W, C], in the forms that XLA runs fast on every device."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import lanes, layers, norm_sum

Triple = tuple[int, int, int]
ONES: Triple = (1, 1, 1)
AXES = ("NDHWC", "DHWIO", "NDHWC")


def conv_3x3x3(x: jax.Array, kernel: jax.Array, strides: Triple, rates: Triple) -> jax.Array:
    """Returns a 3 x 3 x 3 convolution with dilation `rates` and as many zeros of padding.

    `out[d, h, w] = sum over a, b, c of padded[s d + r a, s h + r b, s w + r c] @ kernel[a, b, c]`,
    with the stride s and rate r of each axis: PyTorch's Conv3d with padding=rates. XLA's 3D
    convolution is slow on CPU. There it is a 2D convolution over the three slices that each output
    slice sees, stacked as channels, which makes it and its gradients 7 to 10 times faster.

    Args:
        x: [B, D, H, W, C].
        kernel: [3, 3, 3, C, F], of the same type as `x`.
        strides: steps between outputs along D, H, W.
        rates: distances of the taps along D, H, W; 1 is no dilation.

    Returns:
        [B, ceil(D / s), ceil(H / s), ceil(W / s), F].
    """

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pad = [(rate, rate) for rate in rates]
        return jax.lax.conv_general_dilated(
            x, kernel, strides, pad, rhs_dilation=rates, dimension_numbers=AXES
        )

    def by_slices(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _conv_by_slices(x, kernel, strides, rates)

    return jax.lax.platform_dependent(x, kernel, cpu=by_slices, default=plain)


def _conv_by_slices(x: jax.Array, kernel: jax.Array, strides: Triple, rates: Triple) -> jax.Array:
    """Returns `conv_3x3x3` as a 2D convolution: slices in the batch, taps along D in channels."""
    (step, *strides_2d), (rate, *rates_2d) = strides, rates
    batch, depth, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (rate, rate), (0, 0), (0, 0), (0, 0)))
    seen = [padded[:, tap * rate : tap * rate + depth : step] for tap in range(3)]
    stacked = jnp.concatenate(seen, axis=-1)
    slices = stacked.shape[1]
    y = jax.lax.conv_general_dilated(
        stacked.reshape(batch * slices, height, width, 3 * channels),
        kernel.transpose(1, 2, 0, 3, 4).reshape(3, 3, 3 * channels, -1),
        strides_2d,
        [(rate, rate) for rate in rates_2d],
        rhs_dilation=rates_2d,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(batch, slices, *y.shape[1:])


class Conv3x3x3(nn.Module):
    """The layer `conv_3x3x3`, with the parameters of `nn.Conv(features, (3, 3, 3))`.

    Attributes:
        features: number of output channels.
        strides: steps between outputs along D, H, W.
        rates: distances of the taps along D, H, W.
        use_bias: add a bias; leave it out before BatchNorm, which would subtract it.
        dtype: compute type; parameters are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0; then the stride along D and all
            rates are 1.
        parts: with slices in lanes, the number of arrays that are joined in `x`.
    """

    features: int
    strides: Triple = ONES
    rates: Triple = ONES
    use_bias: bool = True
    dtype: str = "float32"
    slices: int = 0
    parts: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features].

        With slices in lanes, maps [B, H, W, D C] to [B, H / stride, W / stride, D features].
        """
        shape = (3, 3, 3, x.shape[-1] // (self.slices or 1), self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        if self.slices:
            assert (self.strides[0], *self.rates) == (1, *ONES), (self.strides, self.rates)
            kernel = lanes.band(kernel, self.slices, self.parts)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        if self.slices:
            y = lanes.conv(x, kernel, self.strides[1:])
        else:
            y = conv_3x3x3(x, kernel, self.strides, self.rates)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y + lanes.row(bias.astype(y.dtype), y)


class Conv1x1x1(nn.Module):
    """A 1 x 1 x 1 convolution without bias: a dense layer over the channels of every voxel.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0.
        parts: with slices in lanes, the number of arrays that are joined in `x`.
    """

    features: int
    dtype: str = "float32"
    slices: int = 0
    parts: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, D, H, W, features], or [B, H, W, D C] to the like."""
        shape = (x.shape[-1] // (self.slices or 1), self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        if self.slices:
            kernel = lanes.band(kernel.reshape(*ONES, *shape), self.slices, self.parts)
            x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
            return lanes.conv(x, kernel)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        if x.shape[-1] > 1:
            # As one array, else XLA on GPUs reads it once for each sum of its statistics.
            return _stored(x @ kernel)
        # Element by element, so that it is computed where it is used and never stored; in float32,
        # so that the kernel's gradient is a float32 sum.
        y = x.astype(jnp.float32) * kernel.astype(jnp.float32).reshape(1, 1, 1, 1, -1)
        return y.astype(x.dtype)


class ConvNorm(nn.Module):
    """A convolution without bias, 1 x 1 x 1 or 3 x 3 x 3, and the statistics for BatchNorm.

    Attributes:
        features: number of output channels.
        size: voxels of the kernel along each axis, 1 or 3.
        strides: steps between outputs along D, H, W.
        rates: distances of the taps along D, H, W; only with size 3.
        dtype: compute type; parameters and statistics are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0; then the stride along D is 1.
        parts: with slices in lanes, the number of arrays that are joined in `x`.
    """

    features: int
    size: int = 3
    strides: Triple = ONES
    rates: Triple = ONES
    dtype: str = "float32"
    slices: int = 0
    parts: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> norm_sum.Normed:
        """Maps [B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features].

        With slices in lanes, maps [B, H, W, D C] to [B, H / stride, W / stride, D features].
        """
        form: dict[str, Any] = dict(dtype=self.dtype, slices=self.slices, parts=self.parts)
        if self.size == 1:
            depth, rows, columns = self.strides
            seen = x[:, ::rows, ::columns] if self.slices else x[:, ::depth, ::rows, ::columns]
            x = Conv1x1x1(self.features, **form, name="conv")(seen)
        else:
            wide = Conv3x3x3(self.features, self.strides, self.rates, False, **form, name="conv")
            x = wide(x)
        norm = norm_sum.BatchStatistics(slices=self.slices or 1, name="norm")
        return norm(x, use_running_average=not train)


class ResidualBlock(nn.Module):
    """A residual block (He, 2015) whose first convolution and shortcut have `strides`.

    `relu(convnorm(relu(convnorm(x))) + shortcut(x))`. Lin and Huang cite a network and name no
    block, so a residual one is our choice. The shortcut is the input itself or, if the number of
    channels or the size changes, a 1 x 1 x 1 convolution with BatchNorm, He's option B.

    Attributes:
        features: number of output channels.
        strides: steps along D, H, W.
        dtype: compute type; parameters and statistics are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0; then the stride along D is 1.
    """

    features: int
    strides: Triple = ONES
    dtype: str = "float32"
    slices: int = 0

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features].

        With slices in lanes, maps [B, H, W, D C] to [B, H / stride, W / stride, D features].
        Several inputs, of equal shape, are concatenated along their channels.
        """
        x, for_shortcut = _concatenate_for_two(inputs) if len(inputs) > 1 else 2 * inputs
        conv_norm = functools.partial(ConvNorm, self.features, dtype=self.dtype, slices=self.slices)
        narrow = functools.partial(conv_norm, strides=self.strides, parts=len(inputs))
        y = norm_sum.add_relu((narrow(name="first")(x, train=train),))
        last = conv_norm(name="second")(y, train=train)
        if x.shape[-1] == last.x.shape[-1] and tuple(self.strides) == ONES:
            return norm_sum.add_relu((last,), for_shortcut)
        shortcut = narrow(size=1, name="shortcut")(for_shortcut, train=train)
        return norm_sum.add_relu((last, shortcut))


@jax.custom_vjp
def _concatenate_for_two(arrays: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns arrays joined along their last axis, twice, for two layers that see them.

    The gradients of both are cut before they are added, of which XLA makes a single pass.
    """
    joined = _stored(jnp.concatenate(arrays, axis=-1))
    return joined, joined


def _concatenate_forward(
    arrays: tuple[jax.Array, ...],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    return _concatenate_for_two(arrays), tuple(array[:0] for array in arrays)


def _concatenate_backward(
    empty: tuple[jax.Array, ...], gradients: tuple[jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, ...]]:
    ends = list(itertools.accumulate(array.shape[-1] for array in empty))[:-1]
    first, second = (jnp.split(gradient, ends, axis=-1) for gradient in gradients)
    return (tuple(a + b for a, b in zip(first, second, strict=True)),)


_concatenate_for_two.defvjp(_concatenate_forward, _concatenate_backward)


def _stored(x: jax.Array) -> jax.Array:
    """Returns `x`, which an accelerator computes once and stores."""
    return jax.lax.platform_dependent(
        x, cpu=lambda x: x, default=lambda x: jax.lax.optimization_barrier(x)
    )


class UpConv3D(nn.Module):
    """A transposed convolution whose kernel is as large as its strides.

    `out[s d + a, s h + b, s w + c] = in[d, h, w] @ kernel[a, b, c] + bias`, with a, b and c from 0
    to s - 1 of their axis. The windows don't overlap, so it is a dense layer whose outputs are laid
    side by side, as in `layers.UpConv2x2`; XLA is slow at the gradient of a 3D transposed
    convolution.

    Attributes:
        features: number of output channels.
        strides: steps along D, H, W.
        dtype: compute type; parameters are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0.
    """

    features: int
    strides: Triple
    dtype: str = "float32"
    slices: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, stride D, stride H, stride W, features].

        With slices in lanes, maps [B, H, W, D C] to [B, stride H, stride W, stride D features].
        """
        shape = (*self.strides, x.shape[-1] // (self.slices or 1), self.features)
        # Each output sees one input voxel: the fan-in is C, however large the kernel.
        init = nn.initializers.variance_scaling(
            2.0, "fan_in", "normal", in_axis=3, out_axis=4, batch_axis=(0, 1, 2)
        )
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.slices:
            y = lanes.up_conv(x, kernel, self.slices)
            return y + lanes.row(bias, y)
        windows = layers.tap_products(x, kernel)
        return layers.lay_side_by_side(windows) + bias.reshape(1, 1, 1, 1, -1)


def total_strides(strides: Sequence[Triple]) -> Triple:
    """Returns the product of `strides` along each of D, H, W; ones if there are none."""
    depth, rows, columns = zip(ONES, *strides, strict=True)
    return math.prod(depth), math.prod(rows), math.prod(columns)
