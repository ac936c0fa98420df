"""One binary mask of a CT volume: infection or lungs (Lin and Huang)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlung.data import record
from jaxlung.tasks import mask, task

REGIONS = ("lung", "full")


def make_task(*, target: str, region: str, threshold: float, loss: str, alpha: float) -> task.Task:
    """A binary mask of voxels.

    Args:
        target: "infection" or "lung".
        region: what the network sees: "lung", only what is annotated as lungs (the better half of
            Lin and Huang's Table 5); "full", all of the CT.
        threshold: a voxel is foreground above this probability, in (0, 1).
        loss: a key of `losses.binary.LOSSES`; the paper's is "bce_dice".
        alpha: weight of the cross-entropy in it.

    Raises:
        ValueError: an unknown target, region or loss; lungs sought inside the lungs; a threshold
            or alpha out of range.
    """
    if region not in REGIONS:
        raise ValueError(f"task.region: got {region!r}, want one of {', '.join(REGIONS)}.")
    if (target, region) == ("lung", "lung"):
        raise ValueError("task.region: got 'lung' with task.target 'lung', want 'full'.")
    needs_lungs = region == "lung"
    binary = mask.make_task(target=target, threshold=threshold, loss=loss, alpha=alpha)
    return dataclasses.replace(
        binary,
        name="volume_mask",
        records="volumes",
        needs=binary.needs | (record.LUNG if needs_lungs else 0),
        needs_lungs=needs_lungs,
        inputs=inside_lungs if needs_lungs else task.whole_image,
        epoch_score=("dice_pooled", "dice"),
    )


def inside_lungs(images: jax.Array, masks: jax.Array) -> jax.Array:
    """The CT times the lung mask (Lin and Huang, section 3.6).

    Args:
        images: [B, D, H, W, 1] float32 in [0, 1].
        masks: [B, D, H, W] uint8, bits of `record`.
    """
    return jnp.where((masks & record.LUNG != 0)[..., None], images, 0)
