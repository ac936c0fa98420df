"""One binary mask: lungs or infection (papers 001 to 004)."""

import functools

import jax
import jax.numpy as jnp

from jaxlung.data import record
from jaxlung.losses import cross_entropy
from jaxlung.tasks import task

BITS = {"lung": record.LUNG, "infection": record.INFECTION}


def make_task(*, target: str, threshold: float) -> task.Task:
    """A binary mask with binary cross-entropy.

    Args:
        target: "lung" or "infection".
        threshold: a pixel is foreground above this probability, in (0, 1).

    Raises:
        ValueError: an unknown target, or a threshold outside (0, 1).
    """
    if target not in BITS:
        raise ValueError(f"task.target: got {target!r}, want one of {', '.join(BITS)}.")
    if not 0 < threshold < 1:
        raise ValueError(f"task.threshold: got {threshold}, want a number between 0 and 1.")
    true_levels = functools.partial(has_bit, bit=BITS[target])
    return task.Task(
        name="mask",
        levels=("background", target),
        greys=(0, 255),
        needs=BITS[target],
        true_levels=true_levels,
        targets=lambda masks: true_levels(masks)[..., None].astype(jnp.float32),
        loss=cross_entropy.bce,
        floor=cross_entropy.bce_floor,
        postprocess=lambda probs: (probs[..., 0] > threshold).astype(jnp.uint8),
    )


def has_bit(masks: jax.Array, bit: int) -> jax.Array:
    """[B, H, W] uint8 packed bits to [B, H, W] uint8, 1 where `bit` is set."""
    return ((masks & bit) != 0).astype(jnp.uint8)
