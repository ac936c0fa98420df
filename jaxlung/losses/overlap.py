"""Overlap losses: 1 minus a soft overlap of probabilities and targets, alone or added to BCE."""

import jax
import jax.numpy as jnp

from jaxlung.losses import cross_entropy

# Pixels or voxels added to both sides of the ratio. One matters for an empty mask, not for a lung.
SMOOTHING = 1.0


def soft_iou(logits: jax.Array, targets: jax.Array, smoothing: float = SMOOTHING) -> jax.Array:
    """Returns 1 - soft intersection over union of each image (Rahman and Wang, ISVC 2016).

    1 - (sum(p t) + s) / (sum(p + t - p t) + s) with p = sigmoid(logits). Nguyen Xuan Tung, equation
    1, prints it without the "1 -", which would be lowest where nothing overlaps. The smoothing s is
    our choice: it gives an empty mask a finite loss and gradient, where the ratio alone would be
    0 / 0. Pixels with saturated logits have no gradient, whether they are right or wrong;
    `cross_entropy.bce` gives them one.

    Args:
        logits: [B, ..., C], any float type; the loss is computed in float32.
        targets: [B, ..., C] in [0, 1].
        smoothing: s, in pixels, above 0.

    Returns:
        [B] float32 in [0, 1); 0 for a perfect prediction, including that of an empty mask.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    overlap, total = _sums("soft_iou", logits, targets)
    return 1 - (overlap + smoothing) / (total - overlap + smoothing)


def soft_dice(logits: jax.Array, targets: jax.Array, smoothing: float = SMOOTHING) -> jax.Array:
    """Returns 1 - soft Dice of each image or volume (Milletari, 3DV 2016, without its squares).

    1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s) with p = sigmoid(logits). Lin and Huang, section
    3.1, name the Dice loss and print no formula.

    Each element of the batch is scored by itself, so that one patch full of infection doesn't hide
    another one that is missed. The smoothing s is our choice: many patches hold no infection, and
    without it their ratio would be 0 / 0. With it their loss and gradient are finite, and the loss
    is near 0 once less than about one voxel is found. Pixels with saturated logits have no
    gradient; `cross_entropy.bce` gives them one.

    Args:
        logits: [B, ..., C], any float type; the loss is computed in float32.
        targets: [B, ..., C] in [0, 1].
        smoothing: s, in voxels, above 0.

    Returns:
        [B] float32 in [0, 1); 0 for a perfect prediction, including that of an empty mask.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    overlap, total = _sums("soft_dice", logits, targets)
    return 1 - (2 * overlap + smoothing) / (total + smoothing)


def tversky(
    logits: jax.Array, targets: jax.Array, *, alpha: float, smoothing: float = SMOOTHING
) -> jax.Array:
    """Returns 1 - Tversky index of each image or volume (Salehi et al., MLMI 2017).

    1 - (TP + s) / (TP + alpha FP + (1 - alpha) FN + s) with the soft counts TP = sum(p t),
    FP = sum(p (1 - t)) and FN = sum((1 - p) t). With alpha = 0.5 it is `soft_dice` of half the
    smoothing. Below 0.5, missed pixels cost more than false ones; Salehi found 0.3 best. The
    smoothing s is our choice, as in `soft_dice`.

    Args:
        logits: [B, ..., C], any float type; the loss is computed in float32.
        targets: [B, ..., C] in [0, 1].
        alpha: weight of false positives, in [0, 1]; false negatives have the rest.
        smoothing: s, in pixels or voxels, above 0.

    Returns:
        [B] float32 in [0, 1); 0 for a perfect prediction, including that of an empty mask.

    Raises:
        ValueError: `logits` and `targets` differ in shape.
    """
    overlap, total = _sums("tversky", logits, targets)
    expected = jnp.sum(targets.astype(jnp.float32), axis=tuple(range(1, targets.ndim)))
    missed = expected - overlap
    false = total - expected - overlap
    return 1 - (overlap + smoothing) / (overlap + alpha * false + (1 - alpha) * missed + smoothing)


def bce_iou(logits: jax.Array, targets: jax.Array, *, alpha: float) -> jax.Array:
    """Returns alpha * BCE + (1 - alpha) * soft IoU loss of each image.

    Nguyen Xuan Tung, equation 1, prints the IoU without "1 -" and gives no alpha; 0.5 in the config
    is our choice.

    Args:
        logits: [B, ..., 1] float32.
        targets: [B, ..., 1] float32, 0 or 1.
        alpha: weight of the cross-entropy, in [0, 1].

    Returns:
        [B] float32, >= 0.
    """
    return alpha * cross_entropy.bce(logits, targets) + (1 - alpha) * soft_iou(logits, targets)


def bce_dice(logits: jax.Array, targets: jax.Array, *, alpha: float) -> jax.Array:
    """Returns alpha * BCE + soft Dice loss of each image or volume.

    Lin and Huang, section 3.1, with alpha = 0.5. Unlike in `bce_iou`, alpha weighs only the
    cross-entropy; the Dice loss always has weight 1.

    Args:
        logits: [B, ..., 1] float32.
        targets: [B, ..., 1] float32, 0 or 1.
        alpha: weight of the cross-entropy, in [0, 1].

    Returns:
        [B] float32, >= 0.
    """
    return alpha * cross_entropy.bce(logits, targets) + soft_dice(logits, targets)


def _sums(loss: str, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of p t and of p + t over all axes but the first: two of [B] float32."""
    if logits.shape != targets.shape:
        raise ValueError(f"{loss}: logits {logits.shape} and targets {targets.shape} must agree.")
    probs, targets = jax.nn.sigmoid(logits.astype(jnp.float32)), targets.astype(jnp.float32)
    axes = tuple(range(1, logits.ndim))
    return jnp.sum(probs * targets, axis=axes), jnp.sum(probs + targets, axis=axes)
