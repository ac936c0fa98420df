"""Losses of one binary mask, by name: a new one is one line in `LOSSES`."""

import functools
from collections.abc import Callable

import jax

from jaxlung.losses import cross_entropy, overlap

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def bce_iou(logits: jax.Array, targets: jax.Array, *, alpha: float) -> jax.Array:
    """alpha * BCE + (1 - alpha) * soft IoU loss, [B] float32.

    Nguyen Xuan Tung, equation 1, has the IoU without "1 -" and gives no alpha; 0.5 in the config is
    our choice.

    Args:
        logits: [B, ..., 1] float32.
        targets: [B, ..., 1] float32, 0 or 1.
        alpha: share of the cross-entropy, [0, 1].
    """
    bce = cross_entropy.bce(logits, targets)
    return alpha * bce + (1 - alpha) * overlap.soft_iou(logits, targets)


def bce_dice(logits: jax.Array, targets: jax.Array, *, alpha: float) -> jax.Array:
    """alpha * BCE + soft Dice loss, [B] float32; alpha is 0.5 with Lin and Huang, section 3.1.

    Unlike in `bce_iou`, alpha weighs the cross-entropy alone: Dice always counts whole.

    Args:
        logits: [B, ..., 1] float32.
        targets: [B, ..., 1] float32, 0 or 1.
        alpha: weight of the cross-entropy, [0, 1].
    """
    return alpha * cross_entropy.bce(logits, targets) + overlap.soft_dice(logits, targets)


LOSSES: dict[str, Callable[[float], Loss]] = {
    "bce": lambda alpha: cross_entropy.bce,
    "iou": lambda alpha: overlap.soft_iou,
    "bce_iou": lambda alpha: functools.partial(bce_iou, alpha=alpha),
    "bce_dice": lambda alpha: functools.partial(bce_dice, alpha=alpha),
}


def make_loss(name: str, alpha: float) -> Loss:
    """The loss called `name`: logits, targets -> [B] float32, 0 for a perfect answer.

    Raises:
        ValueError: an unknown name, or alpha outside [0, 1].
    """
    if name not in LOSSES:
        raise ValueError(f"task.loss: got {name!r}, want one of {', '.join(LOSSES)}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"task.alpha: got {alpha}, want a number from 0 to 1.")
    return LOSSES[name](alpha)
