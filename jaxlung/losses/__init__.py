"""Losses of a mask, by name: a new one is a function in this folder and one line in `LOSSES`."""

import functools
from collections.abc import Callable

import jax

from jaxlung.losses import cross_entropy, overlap

# A loss maps logits and targets, both [B, ..., 1] float32, to [B] float32.
Loss = Callable[[jax.Array, jax.Array], jax.Array]

# Each entry makes the loss for a weight `alpha` in [0, 1], which some losses ignore. Every loss is
# 0 for a perfect prediction.
LOSSES: dict[str, Callable[[float], Loss]] = {
    "bce": lambda alpha: cross_entropy.bce,
    "focal": lambda alpha: functools.partial(cross_entropy.focal, alpha=alpha),
    "iou": lambda alpha: overlap.soft_iou,
    "dice": lambda alpha: overlap.soft_dice,
    "tversky": lambda alpha: functools.partial(overlap.tversky, alpha=alpha),
    "bce_iou": lambda alpha: functools.partial(overlap.bce_iou, alpha=alpha),
    "bce_dice": lambda alpha: functools.partial(overlap.bce_dice, alpha=alpha),
}
