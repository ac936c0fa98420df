"""Blocks of volumes [B, D, H, W, C], in the forms that XLA runs fast on every device."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers

Triple = tuple[int, int, int]
ONES: Triple = (1, 1, 1)
AXES = ("NDHWC", "DHWIO", "NDHWC")


def conv_3x3x3(x: jax.Array, kernel: jax.Array, strides: Triple, rates: Triple) -> jax.Array:
    """Convolution by 3 x 3 x 3 taps that are `rates` apart, with `rates` zeros around `x`.

    `out[d, h, w] = sum over a, b, c of padded[s d + r a, s h + r b, s w + r c] @ kernel[a, b, c]`,
    with the strides s and rates r of each axis: PyTorch's Conv3d with padding=rates. On CPU, where
    XLA's 3D convolution is slow, it is a 2D one over the three slices that each output slice sees,
    laid side by side as channels (7 to 10 times faster with its gradients).

    Args:
        x: [B, D, H, W, C].
        kernel: [3, 3, 3, C, F], of the type of `x`.
        strides: along D, H, W.
        rates: along D, H, W; 1 is no dilation.

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
    """`conv_3x3x3` as one 2D convolution: slices in the batch, depth's three taps in channels."""
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
    """`conv_3x3x3` with the parameters of `nn.Conv(features, (3, 3, 3), padding=rates)`.

    Attributes:
        features: output channels.
        strides: along D, H, W.
        rates: distance of the taps along D, H, W.
        use_bias: add a bias; leave it out before a BatchNorm, which would subtract it.
        dtype: compute type; parameters are float32.
    """

    features: int
    strides: Triple = ONES
    rates: Triple = ONES
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features]."""
        shape = (3, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = conv_3x3x3(x, kernel, self.strides, self.rates)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y + bias.astype(y.dtype).reshape(1, 1, 1, 1, -1)


class ConvNorm(nn.Module):
    """`Conv3x3x3`, or with `size` 1 a 1 x 1 x 1 convolution, without bias; then BatchNorm.

    A convolution of size 1 is a dense layer over the channels of every `strides`-th voxel.

    Attributes:
        features: output channels.
        size: 1 or 3.
        strides: along D, H, W.
        rates: distance of the taps along D, H, W.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    size: int = 3
    strides: Triple = ONES
    rates: Triple = ONES
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features]."""
        if self.size == 1:
            depth, rows, columns = self.strides
            init = nn.initializers.he_normal()
            dense = nn.Dense(
                self.features, use_bias=False, dtype=self.dtype, kernel_init=init, name="conv"
            )
            x = dense(x[:, ::depth, ::rows, ::columns])
        else:
            x = Conv3x3x3(self.features, self.strides, self.rates, False, self.dtype, name="conv")(
                x
            )
        return layers.batch_norm(train=train, dtype=self.dtype, name="norm")(x)


class ResidualBlock(nn.Module):
    """`relu(convnorm(relu(convnorm(x))) + shortcut(x))`, the first convolution with `strides`.

    Lin and Huang cite a network and name no block: a residual one is our choice, and the form is He
    2015's. Ours too: the shortcut is the input itself or, where channels or size change, a 1 x 1 x
    1 convolution with BatchNorm, He's option B.

    Attributes:
        features: output channels.
        strides: along D, H, W.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    strides: Triple = ONES
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, D, H, W, C] to [B, D / stride, H / stride, W / stride, features]."""
        narrow = dict(strides=self.strides, dtype=self.dtype)
        y = nn.relu(ConvNorm(self.features, name="first", **narrow)(x, train=train))
        y = ConvNorm(self.features, dtype=self.dtype, name="second")(y, train=train)
        if x.shape[-1] != self.features or tuple(self.strides) != ONES:
            x = ConvNorm(self.features, size=1, name="shortcut", **narrow)(x, train=train)
        return nn.relu(y + x.astype(y.dtype))


class UpConv3D(nn.Module):
    """Transposed convolution whose windows are its `strides`, 1 or 2 along each axis.

    The windows don't overlap, so it is a dense layer whose outputs are laid side by side, as
    `layers.UpConv2x2`; XLA is slow at the gradient of a 3D transposed convolution.
    `out[s d + a, s h + b, s w + c] = in[d, h, w] @ kernel[a, b, c] + bias`, with a < s and so on.

    Attributes:
        features: output channels.
        strides: along D, H, W.
        dtype: compute type; parameters are float32.
    """

    features: int
    strides: Triple
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, D, H, W, C] to [B, stride D, stride H, stride W, features]."""
        shape = (*self.strides, x.shape[-1], self.features)
        # Each output sees one input voxel: the fan-in is C, however large the window.
        init = nn.initializers.variance_scaling(
            2.0, "fan_in", "normal", in_axis=3, out_axis=4, batch_axis=(0, 1, 2)
        )
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        products = x @ kernel.transpose(3, 0, 1, 2, 4).reshape(x.shape[-1], -1)
        windows = products.reshape(*x.shape[:-1], *self.strides, self.features)
        # [B, D, H, W, a, b, c, F] to [B, D, a, H, b, W, c, F].
        y = windows.transpose(0, 1, 4, 2, 5, 3, 6, 7)
        return y.reshape(_enlarged(x.shape, self.strides, self.features)) + bias.reshape(
            1, 1, 1, 1, -1
        )


def upsample(x: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Nearest-neighbour up-sampling: every voxel becomes a window of its value.

    A broadcast, as `layers.upsample_2x`. It commutes exactly with 1 x 1 x 1 convolutions.

    Args:
        x: [B, D, H, W, C].
        factors: 1 or more, along D, H, W.

    Returns:
        [B, factor D, factor H, factor W, C].
    """
    batch, depth, height, width, channels = x.shape
    deep, high, wide = factors
    shape = (batch, depth, deep, height, high, width, wide, channels)
    windows = jnp.broadcast_to(x[:, :, None, :, None, :, None], shape)
    return windows.reshape(_enlarged(x.shape, factors, channels))


def _enlarged(shape: Sequence[int], factors: Sequence[int], channels: int) -> tuple[int, ...]:
    sizes = (size * factor for size, factor in zip(shape[1:4], factors, strict=True))
    return (shape[0], *sizes, channels)


def total_strides(strides: Sequence[Triple]) -> Triple:
    """The product of all `strides`, along D, H, W; of none, 1."""
    return tuple(math.prod(axis) for axis in zip(ONES, *strides, strict=True))
