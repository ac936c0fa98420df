"""Overlap losses: 1 minus a soft overlap of probabilities and targets."""

import jax
import jax.numpy as jnp

SMOOTHING = 1.0  # One pixel or voxel: seen by empty masks, not by lungs.


def soft_iou(logits: jax.Array, targets: jax.Array, smoothing: float = SMOOTHING) -> jax.Array:
    """1 - soft intersection over union of every image (Rahman and Wang, ISVC 2016).

    1 - (sum(p t) + s) / (sum(p + t - p t) + s) with p = sigmoid(logits). Nguyen Xuan Tung, equation
    1, has it without the "1 -", which would be best where nothing overlaps; the smoothing s is our
    choice. It gives an empty mask a finite loss and gradient where the ratio alone would be 0 / 0.
    Pixels of saturated logits have no gradient, be they right or wrong; `cross_entropy.bce` gives
    them one.

    Args:
        logits: [B, ..., C], computed in float32.
        targets: same shape, in [0, 1].
        smoothing: s, pixels, above 0.

    Returns:
        [B] float32 in [0, 1); 0 for a perfect prediction, also of nothing.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    overlap, total = _sums("soft_iou", logits, targets)
    return 1 - (overlap + smoothing) / (total - overlap + smoothing)


def soft_dice(logits: jax.Array, targets: jax.Array, smoothing: float = SMOOTHING) -> jax.Array:
    """1 - soft Dice of every image or volume (Milletari, 3DV 2016, without its squares).

    Lin and Huang, section 3.1, name it and print no formula.

    1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s) with p = sigmoid(logits), for each of the batch by
    itself: one patch full of infection doesn't hide another that is missed. The smoothing s is our
    choice: a patch without infection, as many are, has a finite loss and gradient, and none to
    pay once less than about one voxel is found. It is 0 / 0 there without. Pixels of saturated
    logits have no gradient; `cross_entropy.bce` gives them one.

    Args:
        logits: [B, ..., C], computed in float32.
        targets: same shape, in [0, 1].
        smoothing: s, voxels, above 0.

    Returns:
        [B] float32 in [0, 1); 0 for a perfect prediction, also of nothing.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    overlap, total = _sums("soft_dice", logits, targets)
    return 1 - (2 * overlap + smoothing) / (total + smoothing)


def _sums(loss: str, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of p t and of p + t over all axes but the first, float32."""
    if logits.shape != targets.shape:
        raise ValueError(f"{loss}: logits {logits.shape} and targets {targets.shape} must agree.")
    probs, targets = jax.nn.sigmoid(logits.astype(jnp.float32)), targets.astype(jnp.float32)
    axes = tuple(range(1, logits.ndim))
    return jnp.sum(probs * targets, axis=axes), jnp.sum(probs + targets, axis=axes)
