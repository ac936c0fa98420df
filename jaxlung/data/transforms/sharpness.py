"""Random loss of sharpness of training images, inside jit: Gaussian blur and low resolution.

Both are linear along rows and along columns. So each image is multiplied from both sides by a small
matrix of its own, which a GPU or TPU does faster than a convolution with changing kernels.
"""

import jax
import jax.numpy as jnp


def soften(images: jax.Array, sigmas: jax.Array, scales: jax.Array) -> jax.Array:
    """Blurs images, then samples them coarsely and enlarges them again.

    Args:
        images: [B, H, W, 1] float32.
        sigmas: [B] float32, standard deviations of a Gaussian, in pixels; 0 leaves an image sharp.
        scales: [B] float32 in (0, 1], resolution over that of the image; 1 leaves it.

    Returns:
        [B, H, W, 1] float32, within the range of each image.
    """

    def along(size: int) -> jax.Array:
        return jnp.matmul(coarsen(size, scales), blur(size, sigmas), precision="highest")

    _, height, width, _ = images.shape
    rows, columns = along(height), along(width)
    return jnp.einsum("bhi,biwc,bvw->bhvc", rows, images, columns, precision="highest")


def blur(size: int, sigmas: jax.Array) -> jax.Array:
    """Returns matrices [B, size, size] that blur a row of `size` pixels; each row sums to 1.

    At the edge a pixel is the weighted mean of those that are there.
    """
    places = jnp.arange(size, dtype=jnp.float32)
    apart = (places[:, None] - places[None, :]) ** 2
    # Far below one pixel nothing but the pixel itself counts.
    variances = jnp.maximum(sigmas, 0.1)[:, None, None] ** 2
    weights = jnp.exp(-apart[None] / (2 * variances))
    return weights / jnp.sum(weights, axis=2, keepdims=True)


def coarsen(size: int, scales: jax.Array) -> jax.Array:
    """Returns matrices [B, size, size] that take every 1 / scale-th pixel and interpolate linearly.

    The sample k is the pixel nearest to (k + 1/2) / scale - 1/2, as in nearest-neighbour resizing.
    """
    scale = scales[:, None, None]
    places = jnp.arange(size, dtype=jnp.float32)
    wanted = (places[None, :, None] + 0.5) * scale - 0.5  # in samples, [B, size, 1]
    last = jnp.ceil(size * scale) - 1
    wanted = jnp.clip(wanted, 0, last)
    lower = jnp.floor(wanted)

    def pick(sample: jax.Array) -> jax.Array:
        """Returns rows [B, size, size] with 1 at the pixel of a sample."""
        pixel = jnp.clip(jnp.round((sample + 0.5) / scale - 0.5), 0, size - 1)
        return (pixel == places[None, None, :]).astype(jnp.float32)

    share = wanted - lower
    return (1 - share) * pick(lower) + share * pick(jnp.minimum(lower + 1, last))
