"""Preprocessing inside jit, the same for both feeds."""

import jax
import jax.numpy as jnp

from jaxlung.volume import hounsfield


def min_max_scale(images: jax.Array) -> jax.Array:
    """Scales every image to [0, 1] by its own smallest and largest value.

    This is our reading of the MinMaxScaler of Nguyen Xuan Minh Vu, section 4.1. For the other
    systems on X-rays it is our choice.

    Args:
        images: [B, H, W] uint8.

    Returns:
        [B, H, W, 1] float32; an image of one value becomes 0.
    """
    x = images.astype(jnp.float32)
    low = jnp.min(x, axis=(1, 2), keepdims=True)
    high = jnp.max(x, axis=(1, 2), keepdims=True)
    # maximum() keeps 0 / 0 out: a constant image is all zeros.
    return ((x - low) / jnp.maximum(high - low, 1))[..., None]


def window_hu(images: jax.Array, window: tuple[float, float]) -> jax.Array:
    """Scales a window of Hounsfield units to [0, 1].

    Args:
        images: [B, D, H, W] int16 HU.
        window: low and high, HU.

    Returns:
        [B, D, H, W, 1] float32.
    """
    return jnp.asarray(hounsfield.scale(images, window))[..., None]
