"""One binary mask on a CT: infection or lungs (Lin and Huang)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlung.data import record
from jaxlung.tasks import mask, task

REGIONS = ("lung", "full")


def make_task(*, target: str, region: str, threshold: float, loss: str, alpha: float) -> task.Task:
    """Returns the task of finding one binary mask of voxels.

    Args:
        target: "infection" or "lung".
        region: what the network sees: "lung" for only the annotated lungs (the better rows of Lin
            and Huang, Table 5), "full" for all of the CT.
        threshold: probability above which a voxel is foreground, in (0, 1).
        loss: key in `losses.LOSSES`; Lin and Huang use "bce_dice".
        alpha: a weight in [0, 1]: of the cross-entropy in "bce_iou" and "bce_dice", of the
            foreground in "focal", of false positives in "tversky"; others ignore it.

    Raises:
        ValueError: unknown target, region or loss; region "lung" with target "lung"; threshold
            outside (0, 1), or alpha outside [0, 1].
    """
    if region not in REGIONS:
        raise ValueError(f"task.region: got {region!r}, want one of {', '.join(REGIONS)}.")
    if (target, region) == ("lung", "lung"):
        raise ValueError("task.region: got 'lung' with task.target 'lung', want 'full'.")
    needs_lungs = region == "lung"
    of_images = mask.make_task(target=target, threshold=threshold, loss=loss, alpha=alpha)
    return dataclasses.replace(
        of_images,
        name="volume_mask",
        records="volumes",
        needs=of_images.needs | (record.LUNG if needs_lungs else 0),
        needs_lungs=needs_lungs,
        inputs=inside_lungs if needs_lungs else task.whole_image,
        epoch_score=("dice_pooled", "dice"),
    )


def inside_lungs(images: jax.Array, masks: jax.Array) -> jax.Array:
    """Returns the CT multiplied by its lung mask (Lin and Huang, section 3.6).

    Args:
        images: [B, D, H, W, 1] float32 in [0, 1].
        masks: [B, D, H, W] uint8, bits of `record`.

    Returns:
        [B, D, H, W, 1] float32, 0 outside the lungs.
    """
    return jnp.where((masks & record.LUNG != 0)[..., None], images, 0)
