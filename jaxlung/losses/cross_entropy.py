"""Binary cross-entropy for soft targets, and its lower bound."""

import jax
import jax.numpy as jnp
import optax


def bce(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the mean binary cross-entropy of each image, in nats per pixel.

    It is computed from logits, so that large ones neither overflow nor lose their gradient.

    Args:
        logits: [B, ..., C] float32, images or volumes.
        targets: [B, ..., C] float32 in [0, 1]; values in between are allowed.

    Returns:
        [B] float32, >= 0.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"bce: logits {logits.shape} and targets {targets.shape} must agree.")
    return _means(optax.sigmoid_binary_cross_entropy(logits, targets))


def focal(logits: jax.Array, targets: jax.Array, *, alpha: float) -> jax.Array:
    """Returns the focal loss of each image (Lin et al., ICCV 2017), in nats per pixel.

    The cross-entropy of a pixel times (1 - p)^2, where p is the probability of its true class, so
    that easy pixels count little; and times alpha for foreground, 1 - alpha for background. The
    exponent 2 is the one that Lin found best, there with alpha = 0.25.

    Args:
        logits: [B, ..., C] float32, images or volumes.
        targets: [B, ..., C] float32, 0 or 1.
        alpha: weight of the foreground, in [0, 1].

    Returns:
        [B] float32, >= 0.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"focal: logits {logits.shape} and targets {targets.shape} must agree.")
    return _means(optax.sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=2.0))


def bce_floor(targets: jax.Array) -> jax.Array:
    """Returns the lowest `bce` that any logits can reach: the entropy of the targets.

    It is 0 for targets of 0 and 1, and 0.693 nats for every lung pixel whose grey is 125 / 255.

    Args:
        targets: [B, ..., C] float32 in [0, 1].

    Returns:
        [B] float32, nats per pixel.
    """
    entropy = jax.scipy.special.entr(targets) + jax.scipy.special.entr(1 - targets)
    return _means(entropy)


def _means(x: jax.Array) -> jax.Array:
    """Returns the mean over all axes but the first: [B, ...] to [B]."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
