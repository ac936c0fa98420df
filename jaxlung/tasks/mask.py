"""One binary mask on an X-ray: lungs or infection."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxlung import losses
from jaxlung.data import record
from jaxlung.metrics import overlap
from jaxlung.tasks import task


def make_task(*, target: str, threshold: float, loss: str, alpha: float) -> task.Task:
    """Returns the task of finding one binary mask.

    Args:
        target: "lung" or "infection".
        threshold: probability above which a pixel is foreground, in (0, 1).
        loss: key in `losses.LOSSES`.
        alpha: a weight in [0, 1]: of the cross-entropy in "bce_iou" and "bce_dice", of the
            foreground in "focal", of false positives in "tversky"; others ignore it.

    Raises:
        ValueError: unknown target or loss, threshold outside (0, 1), or alpha outside [0, 1].
    """
    if target not in record.BITS:
        raise ValueError(f"task.target: got {target!r}, want one of {', '.join(record.BITS)}.")
    if not 0 < threshold < 1:
        raise ValueError(f"task.threshold: got {threshold}, want a number between 0 and 1.")
    if loss not in losses.LOSSES:
        raise ValueError(f"task.loss: got {loss!r}, want one of {', '.join(losses.LOSSES)}.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"task.alpha: got {alpha}, want a number from 0 to 1.")
    true_levels = functools.partial(has_bit, bit=record.BITS[target])
    return task.Task(
        name="mask",
        role=target,
        levels=("background", target),
        greys=(0, 255),
        records="images",
        needs=record.BITS[target],
        needs_lungs=False,
        is_map=True,
        threshold=threshold,
        inputs=task.whole_image,
        true_levels=lambda masks, labels: true_levels(masks),
        targets=lambda masks, labels: true_levels(masks)[..., None].astype(jnp.float32),
        loss=losses.LOSSES[loss](alpha),
        # Targets are 0 or 1, and no loss has a lower bound above 0 for these.
        floor=lambda targets: jnp.zeros(targets.shape[0], jnp.float32),
        postprocess=functools.partial(task.above, threshold=threshold),
        image_scores=overlap.binary_scores,
        pooled_scores=pooled_scores,
        averages_images=True,
        rank_by="dice",
        epoch_score=("mean_iou_pooled", "mean_iou"),
    )


def has_bit(masks: task.Array, bit: int) -> task.Array:
    """Returns 1 where `bit` is set, else 0: [B, ...] uint8 packed masks to [B, ...] uint8."""
    return ((masks & bit) != 0).astype(np.uint8)


def pooled_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of all pixels of a split taken together.

    Args:
        confusions: [..., 2, 2] counts of pixels, rows the reference.

    Returns:
        [...] float64 for each name of `overlap.binary_scores` with "_pooled" appended.
    """
    return {f"{name}_pooled": x for name, x in overlap.binary_scores(confusions).items()}
