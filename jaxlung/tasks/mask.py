"""One binary mask: lungs or infection."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.data import record
from jaxlung.losses import binary
from jaxlung.metrics import overlap
from jaxlung.tasks import task


def make_task(*, target: str, threshold: float, loss: str, alpha: float) -> task.Task:
    """A binary mask.

    Args:
        target: "lung" or "infection".
        threshold: a pixel is foreground above this probability, in (0, 1).
        loss: a key of `binary.LOSSES`.
        alpha: share of the cross-entropy in "bce_iou", [0, 1].

    Raises:
        ValueError: an unknown target or loss, a threshold outside (0, 1), alpha outside [0, 1].
    """
    if target not in record.BITS:
        raise ValueError(f"task.target: got {target!r}, want one of {', '.join(record.BITS)}.")
    if not 0 < threshold < 1:
        raise ValueError(f"task.threshold: got {threshold}, want a number between 0 and 1.")
    loss_fn = binary.make_loss(loss, alpha)
    true_levels = functools.partial(has_bit, bit=record.BITS[target])
    return task.Task(
        name="mask",
        levels=("background", target),
        greys=(0, 255),
        records="images",
        needs=record.BITS[target],
        is_map=True,
        threshold=threshold,
        inputs=task.whole_image,
        true_levels=lambda masks, labels: true_levels(masks),
        targets=lambda masks, labels: true_levels(masks)[..., None].astype(jnp.float32),
        loss=loss_fn,
        floor=lambda targets: jnp.zeros(
            targets.shape[0], jnp.float32
        ),  # Reached where targets are 0 or 1.
        postprocess=functools.partial(task.above, threshold=threshold),
        image_scores=overlap.binary_scores,
        pooled_scores=pooled_scores,
        averages_images=True,
        rank_by="dice",
        epoch_score=("mean_iou_pooled", "mean_iou"),
    )


def has_bit(masks: jax.Array, bit: int) -> jax.Array:
    """[B, H, W] uint8 packed bits to [B, H, W] uint8, 1 where `bit` is set."""
    return ((masks & bit) != 0).astype(np.uint8)


def pooled_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of all pixels of a split together, [..., 2, 2] to "..._pooled" -> [...]."""
    return {f"{name}_pooled": x for name, x in overlap.binary_scores(confusions).items()}
