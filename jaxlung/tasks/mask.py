"""One binary mask: lungs or infection (papers 001 to 004)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.data import record
from jaxlung.losses import cross_entropy
from jaxlung.metrics import overlap
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
        image_scores=image_scores,
        split_scores=split_scores,
        rank_by="dice",
    )


def has_bit(masks: jax.Array, bit: int) -> jax.Array:
    """[B, H, W] uint8 packed bits to [B, H, W] uint8, 1 where `bit` is set."""
    return ((masks & bit) != 0).astype(jnp.uint8)


def image_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Dice and IoU of the foreground in every image; 1 where both masks are empty.

    Args:
        confusions: [N, 2, 2] counts.

    Returns:
        "dice", "iou": [N] float64.
    """
    scores = overlap.level_scores(confusions)
    return {"dice": scores["f1"][:, 1], "iou": scores["iou"][:, 1]}


def split_scores(confusions: np.ndarray) -> dict[str, float]:
    """Means over images ("dice", "iou"), and scores of all pixels together ("..._pooled")."""
    means = {name: float(x.mean()) for name, x in image_scores(confusions).items()}
    total = np.sum(confusions, axis=0, dtype=np.int64)
    pooled = overlap.level_scores(total)
    return means | {
        "dice_pooled": float(pooled["f1"][1]),
        "iou_pooled": float(pooled["iou"][1]),
        "precision_pooled": float(pooled["precision"][1]),
        "recall_pooled": float(pooled["recall"][1]),
        "accuracy_pooled": float(np.trace(total) / total.sum()),
    }
