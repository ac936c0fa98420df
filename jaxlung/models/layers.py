"""Blocks that several networks share, in the forms that XLA runs fast."""

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
        kernel = self.param("kernel", _over_windows(init), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 4 * self.features)
        y = y.reshape(batch, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, 2 * height, 2 * width, self.features) + bias.reshape(1, 1, 1, -1)


def _over_windows(init: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Initialises [2, 2, C, F] as if it were [1, 1, C, 4 F]."""

    def init_fn(rng: jax.Array, shape: tuple[int, ...], dtype: object = jnp.float32) -> jax.Array:
        height, width, channels, features = shape
        flat = init(rng, (1, 1, channels, height * width * features), dtype)
        return flat.reshape(channels, height, width, features).transpose(1, 2, 0, 3)

    return init_fn


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution that keeps the size, BatchNorm, ReLU (paper 000, section 4.2).

    No bias: BatchNorm would subtract it (our choice).

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
            x = nn.Conv(
                self.features,
                (3, 3),
                use_bias=False,
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"conv_{i}",
            )(x)
            x = batch_norm(train=train, dtype=self.dtype, name=f"norm_{i}")(x)
            x = nn.relu(x)
        return x


def require_dtype(dtype: str) -> None:
    """Raises ValueError if `dtype` is no compute type."""
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"model.dtype: got {dtype!r}, want one of float32, bfloat16.")


def batch_norm(*, train: bool, dtype: str, name: str) -> nn.BatchNorm:
    """BatchNorm as every network here uses it: float32 statistics over the global batch.

    Momentum 0.9 and epsilon 1e-5 are PyTorch's defaults (it writes the momentum as 0.1). Unlike
    PyTorch's, the running variance is the biased one: over B H W values, a factor of
    1 - 1 / (B H W).
    """
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )
