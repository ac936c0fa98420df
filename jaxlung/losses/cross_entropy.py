"""Binary cross-entropy of soft targets, and the floor that no prediction gets below."""

import jax
import jax.numpy as jnp
import optax


def bce(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean binary cross-entropy of every image, in nats per pixel.

    Computed from logits, so that large ones neither overflow nor lose their gradient.

    Args:
        logits: [B, H, W, C] float32.
        targets: [B, H, W, C] float32 in [0, 1]; soft targets are allowed.

    Returns:
        [B] float32, >= 0.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"bce: logits {logits.shape} and targets {targets.shape} must agree.")
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), axis=(1, 2, 3))


def bce_floor(targets: jax.Array) -> jax.Array:
    """The least `bce` that any logits reach: the entropy of the targets.

    0 for targets of 0 and 1; 0.693 nats for every lung pixel of paper 000's 125 / 255.

    Args:
        targets: [B, H, W, C] float32 in [0, 1].

    Returns:
        [B] float32, nats per pixel.
    """
    entropy = jax.scipy.special.entr(targets) + jax.scipy.special.entr(1 - targets)
    return jnp.mean(entropy, axis=(1, 2, 3))
