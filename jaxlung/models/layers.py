"""Blocks that several networks share, in the forms that XLA runs fast."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Largest value of every 2 x 2 window, stride 2.

    The maximum of four strided slices: its gradient is four interior pads, where `nn.max_pool`
    needs a select-and-scatter (7 times slower on CPU). Where values tie, the gradient is shared.

    Args:
        x: [B, H, W, C], H and W even.

    Returns:
        [B, H / 2, W / 2, C].
    """
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def upsample_2x(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling: every pixel becomes a 2 x 2 window of its value.

    A broadcast, whose gradient is a sum over windows; `jax.image.resize` gathers, and its gradient
    scatters (15 times slower on CPU).

    Args:
        x: [B, H, W, C].

    Returns:
        [B, 2 H, 2 W, C].
    """
    batch, height, width, channels = x.shape
    windows = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return windows.reshape(batch, 2 * height, 2 * width, channels)


def repeat_channel(images: jax.Array, channels: int) -> jax.Array:
    """Gray images [B, H, W, 1] as [B, H, W, channels], all channels equal."""
    return jnp.broadcast_to(images, (*images.shape[:3], channels))


class UpConv2x2(nn.Module):
    """2 x 2 transposed convolution with stride 2 (Ronneberger 2015's "up-convolution").

    The windows don't overlap, so it is a dense layer whose outputs are laid side by side
    (depth to space): one matrix product, forward and backward.
    `out[2h + y, 2w + x] = in[h, w] @ kernel[y, x] + bias`, as in PyTorch's ConvTranspose2d.

    Attributes:
        features: output channels.
        dtype: compute type; parameters are float32.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, 2 H, 2 W, features]."""
        batch, height, width, channels = x.shape
        shape = (2, 2, channels, self.features)
        # Each output sees one input pixel: the fan-in is `channels`, not 4 times that.
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=2, out_axis=3)
        kernel = self.param("kernel", _over_windows(init), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = _tap_products(x, kernel).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, 2 * height, 2 * width, self.features) + bias.reshape(1, 1, 1, -1)


class UpsampleConv2x2(nn.Module):
    """Nearest x2 up-sampling, then a 2 x 2 convolution that keeps the size (Zhang, section 4.1).

    Keras's "same" adds a row of zeros below and a column at the right:
    `out[h, w] = sum over a, b of up[h + a, w + b] @ kernel[a, b] + bias`. Repeating pixels and
    multiplying them commute, so the four products are taken at the small size, in one matrix
    product, and then repeated, shifted and added: a quarter of the multiplications.

    Attributes:
        features: output channels.
        dtype: compute type; parameters are float32.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, 2 H, 2 W, features]."""
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        taps = _tap_products(x, kernel)
        rows = _repeat_and_add(taps[:, :, :, 0], taps[:, :, :, 1], axis=1)
        y = _repeat_and_add(rows[:, :, :, 0], rows[:, :, :, 1], axis=2)
        return y + bias.reshape(1, 1, 1, -1)


def _tap_products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Each pixel times each tap: [B, H, W, C] and [2, 2, C, F] to [B, H, W, 2, 2, F]."""
    channels, features = kernel.shape[2:]
    products = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 4 * features)
    return products.reshape(*x.shape[:-1], 2, 2, features)


def _repeat_and_add(here: jax.Array, after: jax.Array, axis: int) -> jax.Array:
    """Two taps along `axis`, both repeated x2; `after` is read one place on, zero past the end."""
    size = here.shape[axis]
    pad = [(0, 0)] * here.ndim
    pad[axis] = (0, 1)
    following = jnp.pad(jax.lax.slice_in_dim(after, 1, size, axis=axis), pad)
    # An even place and the one after it repeat one pixel; after an odd place comes the next pixel.
    pairs = jnp.stack([here + after, here + following], axis=axis + 1)
    return pairs.reshape(*here.shape[:axis], 2 * size, *here.shape[axis + 1 :])


def _over_windows(init: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Initialises [2, 2, C, F] as if it were [1, 1, C, 4 F]."""

    def init_fn(rng: jax.Array, shape: tuple[int, ...], dtype: object = jnp.float32) -> jax.Array:
        height, width, channels, features = shape
        flat = init(rng, (1, 1, channels, height * width * features), dtype)
        return flat.reshape(channels, height, width, features).transpose(1, 2, 0, 3)

    return init_fn


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution that keeps the size, BatchNorm, ReLU.

    Nguyen Xuan Minh Vu, section 4.2.

    Attributes:
        features: output channels.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, H, W, features]; `train` uses and updates batch statistics."""
        for i in range(2):
            x = nn.relu(_conv_norm(x, self.features, 3, f"{i}", train=train, dtype=self.dtype))
        return x


class ResidualDoubleConv(nn.Module):
    """`DoubleConv` with its input added before the last ReLU (He 2015).

    `relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))`. Nguyen Xuan Tung, section 3.1, says no
    more than "residual block". Ours: the shortcut is the input itself or, where channels change, a
    1 x 1 convolution without bias and a BatchNorm, as in He's option B.

    Attributes:
        features: output channels.
        dtype: compute type; parameters and statistics are float32.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] to [B, H, W, features]; `train` uses and updates batch statistics."""
        conv_norm = functools.partial(_conv_norm, train=train, dtype=self.dtype)
        y = nn.relu(conv_norm(x, self.features, 3, "0"))
        y = conv_norm(y, self.features, 3, "1")
        if x.shape[-1] != self.features:
            x = conv_norm(x, self.features, 1, "shortcut")
        return nn.relu(y + x.astype(y.dtype))


def _conv_norm(
    x: jax.Array, features: int, size: int, name: str, *, train: bool, dtype: str
) -> jax.Array:
    """`size` x `size` convolution `conv_<name>` that keeps the size, then BatchNorm `norm_<name>`.

    No bias: BatchNorm would subtract it (our choice).
    """
    x = nn.Conv(
        features,
        (size, size),
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        name=f"conv_{name}",
    )(x)
    return batch_norm(train=train, dtype=dtype, name=f"norm_{name}")(x)


def require(field: str, value: object, good: bool, want: str) -> None:
    """Raises ValueError unless `good`: attribute `field` is `value`, which is not `want`."""
    if not good:
        raise ValueError(f"model.{field}: got {value!r}, want {want}.")


def require_counts(field: str, values: Sequence[int], at_least: int) -> None:
    """Raises ValueError unless `values` are `at_least` (1 or 2) or more whole numbers above 0."""
    good = len(values) >= at_least and all(isinstance(v, int) and v > 0 for v in values)
    number = {1: "one", 2: "two"}[at_least]
    require(field, tuple(values), good, f"{number} or more counts above 0")


def require_multiple(images: jax.Array, multiple: int, remedy: str) -> None:
    """Raises ValueError unless H and W of `images` [B, H, W, C] are multiples of `multiple`."""
    height, width = images.shape[1:3]
    if height % multiple or width % multiple:
        raise ValueError(
            f"model: got images of {height} x {width}, want multiples of {multiple}; {remedy}."
        )


def require_dtype(dtype: str) -> None:
    """Raises ValueError if `dtype` is no compute type."""
    require("dtype", dtype, dtype in ("float32", "bfloat16"), "one of float32, bfloat16")


def batch_norm(*, train: bool, dtype: str, name: str) -> Callable[[jax.Array], jax.Array]:
    """BatchNorm as every network here uses it: float32 statistics over the global batch.

    Momentum 0.9 and epsilon 1e-5 are PyTorch's defaults (it writes the momentum as 0.1). Unlike
    PyTorch's, the running variance is the biased one: over B H W values, a factor of
    1 - 1 / (B H W).
    """
    norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)
    # An argument of the call, not of the module: `optimizer.still_statistics` changes it.
    return functools.partial(norm, use_running_average=not train)
