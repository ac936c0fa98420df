"""Layers that several networks share, in the forms that XLA runs fast; all of them for images.

`upsample`, `tap_products` and `lay_side_by_side` also take volumes.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import normalization, paired, pooling


def upsample(x: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Returns `x` with each pixel or voxel repeated to a window (nearest-neighbour up-sampling).

    It is a broadcast, whose gradient is a sum over windows; `jax.image.resize` gathers, and its
    gradient scatters, which is 15 times slower on CPU. It commutes exactly with 1 x 1 convolutions.

    Args:
        x: [B, H, W, C] or [B, D, H, W, C].
        factors: size of a window along each axis between B and C, 1 or more.

    Returns:
        [B, ..., C], each size times its factor.
    """
    batch, *sizes, channels = x.shape
    pairs = list(zip(sizes, factors, strict=True))
    windows = jnp.expand_dims(x, [2 * axis for axis in range(1, len(pairs) + 1)])
    windows = jnp.broadcast_to(windows, (batch, *itertools.chain(*pairs), channels))
    return windows.reshape(batch, *map(math.prod, pairs), channels)


def tap_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the product of each pixel or voxel with each tap of a kernel, by one matrix product.

    Args:
        x: [B, H, W, C] or [B, D, H, W, C].
        kernel: [a, b, C, F] or [a, b, c, C, F].

    Returns:
        [B, H, W, a, b, F] or [B, D, H, W, a, b, c, F].
    """
    *window, channels, features = kernel.shape
    products = x @ jnp.moveaxis(kernel, -2, 0).reshape(channels, -1)
    return products.reshape(*x.shape[:-1], *window, features)


def lay_side_by_side(windows: jax.Array) -> jax.Array:
    """Returns windows that don't overlap as one array ("depth to space").

    Args:
        windows: [B, H, W, a, b, F] or [B, D, H, W, a, b, c, F].

    Returns:
        [B, a H, b W, F] or [B, a D, b H, c W, F].
    """
    batch, *sizes, features = windows.shape
    half = len(sizes) // 2
    pairs = list(zip(sizes[:half], sizes[half:], strict=True))
    order = [axis for i in range(1, half + 1) for axis in (i, half + i)]
    apart = windows.transpose(0, *order, windows.ndim - 1)
    return apart.reshape(batch, *map(math.prod, pairs), features)


def repeat_channel(images: jax.Array, channels: int) -> jax.Array:
    """Returns grey images as images of equal channels: [B, H, W, 1] to [B, H, W, channels]."""
    return jnp.broadcast_to(images, (*images.shape[:3], channels))


class UpConv2x2(nn.Module):
    """A 2 x 2 transposed convolution with stride 2, the "up-convolution" of Ronneberger (2015).

    `out[2h + y, 2w + x] = in[h, w] @ kernel[y, x] + bias`, as in PyTorch's ConvTranspose2d. The
    windows don't overlap, so it is a dense layer whose outputs are laid side by side: one matrix
    product, forward and backward.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters are float32.
        in_pairs: return the columns in pairs (see `paired`), which takes no transpose.
        dilated: compute it as a convolution with zeros between the pixels. TPUs are faster at it,
            as they then have nothing to lay side by side.
    """

    features: int
    dtype: str = "float32"
    in_pairs: bool = False
    dilated: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, 2 H, 2 W, features]; in pairs to [B, 2 H, W, 2 features]."""
        shape = (2, 2, x.shape[-1], self.features)
        # Each output sees one input pixel: the fan-in is C, not 4 C.
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=2, out_axis=3)
        kernel = self.param("kernel", _over_windows(init), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.in_pairs:
            return paired.up_conv_2x2(x, kernel) + paired.row(bias)
        up = up_dilated if self.dilated else up_by_products
        return up(x, kernel) + bias.reshape(1, 1, 1, -1)


def up_by_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns an up-convolution by one product.

    Args:
        x: [B, H, W, C].
        kernel: [2, 2, C, F].

    Returns:
        [B, 2 H, 2 W, F].
    """
    return lay_side_by_side(tap_products(x, kernel))


def up_dilated(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `up_by_products`, computed as a convolution with zeros between the pixels."""
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((1, 1), (1, 1)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class UpsampleConv2x2(nn.Module):
    """Nearest x2 up-sampling, then a 2 x 2 convolution that keeps the size (Zhang, section 4.1).

    Keras's padding "same" adds a row of zeros below and a column at the right:
    `out[h, w] = sum over a, b of up[h + a, w + b] @ kernel[a, b] + bias`. Repeating pixels and
    multiplying them commute. So the four products are computed at the small size, in one matrix
    product, and then repeated, shifted and added; this takes a quarter of the multiplications.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters are float32.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, 2 H, 2 W, features]."""
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        taps = tap_products(x, kernel)
        rows = _repeat_and_add(taps[:, :, :, 0], taps[:, :, :, 1], axis=1)
        y = _repeat_and_add(rows[:, :, :, 0], rows[:, :, :, 1], axis=2)
        return y + bias.reshape(1, 1, 1, -1)


def _repeat_and_add(here: jax.Array, after: jax.Array, axis: int) -> jax.Array:
    """Returns the sum of two taps, repeated x2 along `axis`, with `after` shifted by one place.

    Past the end `after` is 0.
    """
    size = here.shape[axis]
    pad = [(0, 0)] * here.ndim
    pad[axis] = (0, 1)
    following = jnp.pad(jax.lax.slice_in_dim(after, 1, size, axis=axis), pad)
    # Places 2 i and 2 i + 1 repeat pixel i, and so the place after 2 i + 1 is of pixel i + 1.
    pairs = jnp.stack([here + after, here + following], axis=axis + 1)
    return pairs.reshape(*here.shape[:axis], 2 * size, *here.shape[axis + 1 :])


def _over_windows(init: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Returns an initialiser of [2, 2, C, F] that draws the numbers of [1, 1, C, 4 F]."""

    def init_fn(rng: jax.Array, shape: tuple[int, ...], dtype: object = jnp.float32) -> jax.Array:
        height, width, channels, features = shape
        flat = init(rng, (1, 1, channels, height * width * features), dtype)
        return flat.reshape(channels, height, width, features).transpose(1, 2, 0, 3)

    return init_fn


class DoubleConv(nn.Module):
    """Two blocks of 3 x 3 convolution that keeps the size, BatchNorm and ReLU.

    Nguyen Xuan Minh Vu, section 4.2.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters and statistics are float32.
        pool: also return the result after 2 x 2 max-pooling.
    """

    features: int
    dtype: str = "float32"
    pool: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Any:
        """Maps [B, H, W, C] to [B, H, W, features]; `train` uses and updates batch statistics.

        With `pool` it returns a pair of that and of [B, H / 2, W / 2, features].
        """
        conv_norm = functools.partial(_conv_norm, relu=True, train=train, dtype=self.dtype)
        x = conv_norm(x, self.features, 3, "0")
        return conv_norm(x, self.features, 3, "1", pool=self.pool)


class ResidualDoubleConv(nn.Module):
    """A `DoubleConv` whose input is added before the last ReLU (He, 2015).

    `relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))`. Nguyen Xuan Tung, section 3.1, says no
    more than "residual block". Our choice: the shortcut is the input itself or, if the number of
    channels changes, a 1 x 1 convolution without bias and a BatchNorm, He's option B.

    Attributes:
        features: number of output channels.
        dtype: compute type; parameters and statistics are float32.
        pool: also return the result after 2 x 2 max-pooling.
    """

    features: int
    dtype: str = "float32"
    pool: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Any:
        """Maps [B, H, W, C] to [B, H, W, features]; `train` uses and updates batch statistics.

        With `pool` it returns a pair of that and of [B, H / 2, W / 2, features].
        """
        conv_norm = functools.partial(_conv_norm, train=train, dtype=self.dtype)
        y = conv_norm(x, self.features, 3, "0", relu=True)
        y = conv_norm(y, self.features, 3, "1")
        if x.shape[-1] != self.features:
            x = conv_norm(x, self.features, 1, "shortcut")
        y = nn.relu(y + x.astype(y.dtype))
        return (y, pooling.max_pool_2x2(y)) if self.pool else y


def _conv_norm(
    x: jax.Array,
    features: int,
    size: int,
    name: str,
    *,
    train: bool,
    dtype: str,
    relu: bool = False,
    pool: bool = False,
) -> Any:
    """Returns BatchNorm `norm_<name>` of the `size` x `size` convolution `conv_<name>` of `x`.

    See `normalization.BatchNorm` for `relu`, and for `pool`, which makes the result a pair.
    The convolution keeps the size. It has no bias, which BatchNorm would subtract (our choice).
    """
    x = nn.Conv(
        features,
        (size, size),
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        name=f"conv_{name}",
    )(x)
    return batch_norm(train=train, dtype=dtype, name=f"norm_{name}", relu=relu, pool=pool)(x)


class PixelDense(nn.Module):
    """A 1 x 1 convolution to few channels, the "head" of a network.

    Attributes:
        features: number of output channels.
        use_bias: add a bias.
        dtype: type that input and kernel are rounded to; parameters and sums are float32.
    """

    features: int
    use_bias: bool
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, features] float32."""
        shape = (1, 1, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        columns = [weigh_channels(x, kernel[0, 0, :, i]) for i in range(self.features)]
        y = jnp.stack(columns, axis=-1)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y = y + bias.reshape(1, 1, 1, -1)
        return y


@jax.custom_vjp
def weigh_channels(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted sum of the channels.

    On GPUs it is a sum, which fuses with what makes `x`; then `x` need not be stored, forward or
    backward. Convolutions to one channel are slow there, and read and write `x`.

    Args:
        x: [B, ..., C].
        weights: [C], of the type of `x`.

    Returns:
        [B, ...] float32.
    """

    def as_sum(x: jax.Array, weights: jax.Array) -> jax.Array:
        y = jnp.sum(x.astype(jnp.float32) * _as_row(weights, x), axis=-1)
        # Without a barrier what follows computes the sum again from `x`, which is larger.
        return jax.lax.optimization_barrier(y)

    def as_product(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.dot(x, weights, preferred_element_type=jnp.float32)

    return jax.lax.platform_dependent(x, weights, cuda=as_sum, default=as_product)


def _weigh_forward(x: jax.Array, weights: jax.Array) -> Any:
    return weigh_channels(x, weights), (x, weights)


def _weigh_backward(residuals: Any, grad: jax.Array) -> Any:
    x, weights = residuals

    def as_sum(x: jax.Array, grad: jax.Array) -> jax.Array:
        return jnp.sum(x.astype(jnp.float32) * grad[..., None], tuple(range(grad.ndim)))

    def as_product(x: jax.Array, grad: jax.Array) -> jax.Array:
        # Not by reshaping to two axes: rows that are cut over devices would be sent around.
        return jnp.tensordot(grad, x.astype(jnp.float32), axes=grad.ndim)

    dx = grad[..., None] * _as_row(weights, x)
    dweights = jax.lax.platform_dependent(x, grad, cuda=as_sum, default=as_product)
    return dx.astype(x.dtype), dweights.astype(weights.dtype)


weigh_channels.defvjp(_weigh_forward, _weigh_backward)


def _as_row(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [C] as [1, ..., 1, C] float32, of the rank of `x`."""
    return vector.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + vector.shape)


def conv_3x3(features: int, dtype: str, name: str, stride: int = 1) -> nn.Conv:
    """Returns a 3 x 3 convolution with bias that keeps the size, or divides it by `stride`.

    Its padding is Keras's "same": with stride 2, even sizes are padded only below and at the right.
    """
    return nn.Conv(
        features,
        (3, 3),
        strides=(stride, stride),
        padding="SAME",
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        name=name,
    )


def batch_norm(
    *, train: bool, dtype: str, name: str, relu: bool = False, pool: bool = False
) -> Callable[[jax.Array], Any]:
    """Returns the BatchNorm that every network uses; see `normalization.BatchNorm`."""
    norm = normalization.BatchNorm(relu, pool, dtype, name=name)
    # An argument of the call, not of the module, so that frozen layers can change it.
    return functools.partial(norm, use_running_average=not train)
