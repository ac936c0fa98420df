"""Layers on images whose columns lie side by side in pairs: [B, H, W / 2, 2 C].

`x[b, h, w] = [image[b, h, 2 w], image[b, h, 2 w + 1]]`. A TPU stores channels in rows of 128
numbers and multiplies blocks of 128 x 128. 64 channels fill half of a row and a quarter of a block;
the rest is padding, which is read and written like numbers. In pairs they fill both. The kernel of
a 3 x 3 convolution becomes half zeros, so there are twice as many products, in half as many blocks.
Values, parameters and statistics are those of the same layers on [B, H, W, C].
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import normalization

AXES = ("NHWC", "HWIO", "NHWC")
COLUMNS = 2  # side by side
MOST_CHANNELS = 64  # of a column: pairs of them fill the 128 lanes of a TPU


def pair(images: jax.Array) -> jax.Array:
    """Lays columns side by side: [B, H, W, C] to [B, H, W / 2, 2 C]; W must be even."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height, width // COLUMNS, COLUMNS * channels)


def unpair(x: jax.Array) -> jax.Array:
    """Returns images of which `x` has the columns in pairs: [B, H, W / 2, 2 C] to [B, H, W, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height, width * COLUMNS, channels // COLUMNS)


def pair_kernel(kernel: jax.Array) -> jax.Array:
    """Returns the kernel that does on columns in pairs what `kernel` does on single ones.

    Each of a pair's two outputs sees its own columns of the pairs around it; the others have zeros.

    Args:
        kernel: [a, b, C, F] with odd a and b, for a convolution that keeps the size.

    Returns:
        [a, 1, 2 C, 2 F] for b = 1, [a, 3, 2 C, 2 F] for b = 3.
    """
    height, width, channels, features = kernel.shape
    reach = width // 2
    pairs = 1 + 2 * -(-reach // COLUMNS)
    seen = []
    for column in range(COLUMNS):
        before = (pairs // 2) * COLUMNS + column - reach
        pad = (before, pairs * COLUMNS - width - before)
        seen.append(jnp.pad(kernel, ((0, 0), pad, (0, 0), (0, 0))))
    return jnp.stack(seen, axis=3).reshape(height, pairs, COLUMNS * channels, COLUMNS * features)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Returns `pooling.max_pool_2x2`: [B, H, W / 2, 2 C] to [B, H / 2, W / 2, C]."""
    left, right = jnp.split(jnp.maximum(x[:, ::2], x[:, 1::2]), COLUMNS, axis=-1)
    return jnp.maximum(left, right)


def up_conv_2x2(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns a 2 x 2 transposed convolution with stride 2, its columns in pairs.

    It is a convolution with zeros between the rows. A TPU then has no rows to lay side by side, and
    moves half as many bytes.

    Args:
        x: [B, H, W, C], columns not in pairs.
        kernel: [2, 2, C, F].

    Returns:
        [B, 2 H, W, 2 F].
    """
    channels = kernel.shape[2]
    taps = kernel[::-1].transpose(0, 2, 1, 3).reshape(2, 1, channels, -1)
    return jax.lax.conv_general_dilated(
        x, taps, (1, 1), ((1, 1), (0, 0)), lhs_dilation=(2, 1), dimension_numbers=AXES
    )


class Conv(nn.Module):
    """A convolution that keeps the size, with the parameters of `nn.Conv(features, (size, size))`.

    Attributes:
        features: number of output channels of a column.
        size: pixels of the kernel along each axis, 1 or 3.
        use_bias: add a bias.
        dtype: compute type; parameters are float32.
        kernel_init: initialiser of the kernel.
    """

    features: int
    size: int
    use_bias: bool
    dtype: str
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, parts: Sequence[jax.Array]) -> jax.Array:
        """Maps arrays [B, H, W / 2, 2 C] of perhaps different C to [B, H, W / 2, 2 features].

        The parts are what one would concatenate to [B, H, W, sum of C].
        """
        channels = [part.shape[-1] // COLUMNS for part in parts]
        shape = (self.size, self.size, sum(channels), self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = jnp.concatenate(parts, axis=-1)
        ends = [sum(channels[:i]) for i in range(1, len(channels))]
        kernels = [pair_kernel(each) for each in jnp.split(kernel, ends, axis=2)]
        x, kernel = nn.dtypes.promote_dtype(x, jnp.concatenate(kernels, axis=2), dtype=self.dtype)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=AXES)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y + row(bias).astype(y.dtype)


class BatchNorm(normalization.BatchNorm):
    """`normalization.BatchNorm` of columns in pairs, with parameters and statistics of C channels.

    Its gradient is JAX's: on TPUs the passes over an array are fused with convolutions. It has no
    pooling.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool) -> jax.Array:
        """Maps [B, H, W / 2, 2 C] to the same shape."""
        shape = (x.shape[-1] // COLUMNS,)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        if use_running_average:
            batch_mean, batch_var = mean.value, var.value
        else:
            batch_mean, batch_var = _statistics(x)
            if not self.is_initializing():
                old = normalization.MOMENTUM
                mean.value = old * mean.value + (1 - old) * batch_mean
                var.value = old * var.value + (1 - old) * batch_var
        factor = jax.lax.rsqrt(batch_var + normalization.EPSILON) * scale
        y = (x.astype(jnp.float32) - row(batch_mean)) * row(factor) + row(bias)
        y = y.astype(self.dtype)
        return nn.relu(y) if self.relu else y


class DoubleConv(nn.Module):
    """`layers.DoubleConv` of columns in pairs.

    Attributes:
        features: number of output channels of a column.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, *parts: jax.Array, train: bool) -> jax.Array:
        """Maps what would be concatenated along the channels to [B, H, W / 2, 2 features]."""
        conv_norm = functools.partial(_conv_norm, relu=True, train=train, dtype=self.dtype)
        x = conv_norm(parts, self.features, 3, "0")
        return conv_norm([x], self.features, 3, "1")


class ResidualDoubleConv(nn.Module):
    """`layers.ResidualDoubleConv` of columns in pairs.

    Attributes:
        features: number of output channels of a column.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W / 2, 2 C] to [B, H, W / 2, 2 features]."""
        conv_norm = functools.partial(_conv_norm, train=train, dtype=self.dtype)
        y = conv_norm([x], self.features, 3, "0", relu=True)
        y = conv_norm([y], self.features, 3, "1")
        if x.shape[-1] != y.shape[-1]:
            x = conv_norm([x], self.features, 1, "shortcut")
        return nn.relu(y + x.astype(y.dtype))


def row(vector: jax.Array) -> jax.Array:
    """Returns a vector once for each column of a pair: [C] to [1, 1, 1, 2 C]."""
    return jnp.tile(vector, COLUMNS).reshape(1, 1, 1, -1)


def _conv_norm(
    parts: Sequence[jax.Array],
    features: int,
    size: int,
    name: str,
    *,
    train: bool,
    dtype: str,
    relu: bool = False,
) -> jax.Array:
    """Returns BatchNorm `norm_<name>` of the `size` x `size` convolution `conv_<name>`."""
    init = nn.initializers.he_normal()
    y = Conv(features, size, False, dtype, init, name=f"conv_{name}")(parts)
    norm = BatchNorm(relu, dtype=dtype, name=f"norm_{name}")
    return norm(y, use_running_average=not train)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the biased variance of each channel: [C] float32 each."""
    x = x.astype(jnp.float32)
    halves = functools.partial(jnp.reshape, shape=(COLUMNS, -1))
    mean, mean_square = (
        jnp.mean(halves(jnp.mean(each, axis=(0, 1, 2))), axis=0) for each in (x, jnp.square(x))
    )
    # Rounding may make the difference negative.
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0.0)
