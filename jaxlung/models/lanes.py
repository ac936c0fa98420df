"""Layers on volumes whose slices lie side by side in the channels: [B, H, W, D C].

`x[b, h, w, d C + c] = volume[b, d, h, w, c]`. A TPU stores the last axis in rows of 128 numbers,
the "lanes", and multiplies blocks of 128 x 128. 32 channels fill a quarter of a row and a sixteenth
of a block; the rest is padding, which is read and written like numbers. 8 slices of 32 channels
fill two rows. A 3 x 3 x 3 convolution is then one over images: its kernel has zeros for slices that
aren't neighbours. Values and parameters are those of the same layers on [B, D, H, W, C].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

AXES = ("NHWC", "HWIO", "NHWC")
LANES = 128
MOST = 512  # Slices times channels: 3 of 8 bands aren't zeros. The more slices, the more zeros.


def fits(slices: int, channels: int) -> bool:
    """Returns whether volumes of so many slices and channels are faster with slices in lanes."""
    return channels < LANES and slices * channels <= MOST


def fold(volumes: jax.Array) -> jax.Array:
    """Lays slices side by side: [B, D, H, W, C] to [B, H, W, D C]."""
    batch, _, height, width, _ = volumes.shape
    return volumes.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, -1)


def unfold(x: jax.Array, slices: int) -> jax.Array:
    """Returns the volumes that `fold` made `x` of: [B, H, W, D C] to [B, D, H, W, C]."""
    batch, height, width, _ = x.shape
    return x.reshape(batch, height, width, slices, -1).transpose(0, 3, 1, 2, 4)


def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1)) -> jax.Array:
    """Returns a convolution along H and W with as many zeros around as keep the size.

    Args:
        x: [B, H, W, C].
        kernel: [b, c, C, F] with odd b and c, of the same type as `x`.
        strides: steps between outputs along H, W.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), F].
    """
    pad = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(x, kernel, strides, pad, dimension_numbers=AXES)


def band(kernel: jax.Array, slices: int, parts: int = 1) -> jax.Array:
    """Returns the kernel that does on slices side by side what `kernel` does on volumes.

    Output slice e sees input slice d by the tap `d - e + a // 2`, and by zeros if there is no such
    tap.

    Args:
        kernel: [a, b, c, C, F] with odd a, for a convolution that keeps the number of slices.
        slices: D.
        parts: number of arrays of equal shape [B, H, W, D C / parts] that are joined in the input.

    Returns:
        [b, c, D C, D F].
    """
    depth, height, width, channels, features = kernel.shape
    tap, seen, out = jnp.ogrid[:depth, :slices, :slices]
    sees = (tap == seen - out + depth // 2).astype(kernel.dtype)
    apart = kernel.reshape(depth, height, width, parts, -1, features)
    # It only places numbers, so it must not round them.
    placed = jnp.einsum("tde,tabpcf->abpdcef", sees, apart, precision="highest")
    return placed.reshape(height, width, slices * channels, slices * features)


def up_conv(x: jax.Array, kernel: jax.Array, slices: int) -> jax.Array:
    """Returns a transposed convolution whose strides are the sizes of the kernel.

    It is a convolution with zeros between the pixels, so that nothing is laid side by side.

    Args:
        x: [B, H, W, D C].
        kernel: [a, b, c, C, F], of the same type as `x`.
        slices: D.

    Returns:
        [B, b H, c W, a D F].
    """
    _, height, width, channels, _ = kernel.shape
    itself = jnp.eye(slices, dtype=kernel.dtype)
    flipped = kernel[:, ::-1, ::-1]
    placed = jnp.einsum("de,tabcf->abdcetf", itself, flipped, precision="highest")
    return jax.lax.conv_general_dilated(
        x,
        placed.reshape(height, width, slices * channels, -1),
        (1, 1),
        ((height - 1,) * 2, (width - 1,) * 2),
        lhs_dilation=(height, width),
        dimension_numbers=AXES,
    )


def row(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [C] in the rank of `x`, once for each of the slices in its last axis."""
    slices = x.shape[-1] // vector.size
    row = jnp.tile(vector, slices) if slices > 1 else vector
    return row.reshape((1,) * (x.ndim - 1) + row.shape)


def repeat(x: jax.Array, channels: int) -> jax.Array:
    """Returns each number `channels` times: [B, H, W, D] to [B, H, W, D channels].

    It is a product, as a TPU is slow at moving numbers along its lanes.
    """
    ones = jnp.ones((1, 1, 1, 1, channels), x.dtype)
    return conv(x, band(ones, x.shape[-1]))


class Dense(nn.Module):
    """A 1 x 1 x 1 convolution with bias, with the parameters of `nn.Dense(features)`.

    Attributes:
        features: number of output channels.
        slices: D.
        dtype: compute type; parameters are float32.
    """

    features: int
    slices: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, D C] to [B, H, W, D features]."""
        shape = (x.shape[-1] // self.slices, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, band(kernel.reshape(1, 1, 1, *shape), self.slices))
        return y + row(bias, y)
