"""Lungs and infection as three greys of one map (Nguyen Xuan Minh Vu, section 4)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.data import record
from jaxlung.losses import cross_entropy
from jaxlung.metrics import overlap
from jaxlung.tasks import task

LEVELS = ("outside", "lung", "infection")
GREYS = (0, 125, 255)  # Nguyen Xuan Minh Vu, section 4.1: non-lung, lung, infection.


def make_task() -> task.Task:
    """Returns the task of telling outside, lung and infection apart.

    Its loss is the cross-entropy of the soft targets (Nguyen Xuan Minh Vu, section 4.3).
    """
    return task.Task(
        name="three_level",
        role="levels",
        levels=LEVELS,
        greys=GREYS,
        records="images",
        needs=record.LUNG | record.INFECTION,
        needs_lungs=False,
        is_map=True,
        threshold=None,
        inputs=task.whole_image,
        true_levels=lambda masks, labels: true_levels(masks),
        targets=lambda masks, labels: targets(masks),
        loss=cross_entropy.bce,
        floor=cross_entropy.bce_floor,
        postprocess=nearest_level,
        image_scores=scores,
        pooled_scores=scores,  # Our choice: from the confusion matrix of the whole split.
        averages_images=False,
        rank_by="f1_macro",
        epoch_score=("iou_macro", "iou_macro"),
    )


def true_levels(masks: task.Array) -> task.Array:
    """Returns the level of every pixel; infection wins over lung, and also counts outside it.

    Args:
        masks: [B, H, W] uint8 packed bits.

    Returns:
        [B, H, W] uint8: 0 outside, 1 lung, 2 infection.
    """
    lung = ((masks & record.LUNG) != 0).astype(jnp.uint8)
    infection = ((masks & record.INFECTION) != 0).astype(jnp.uint8)
    return 2 * infection + lung * (1 - infection)


def targets(masks: jax.Array) -> jax.Array:
    """Returns the grey of every pixel's level as a soft target.

    Args:
        masks: [B, H, W] uint8 packed bits.

    Returns:
        [B, H, W, 1] float32: 0, 125 / 255 or 1.
    """
    greys = jnp.asarray(np.asarray(GREYS, np.float32) / 255)
    return greys[true_levels(masks)][..., None]


def nearest_level(probs: task.Array) -> task.Array:
    """Returns the level whose grey, 0, 125 or 255, is nearest to 255 times the probability.

    Nguyen Xuan Minh Vu, section 4.5.

    Args:
        probs: [B, H, W, 1] float32 in [0, 1].

    Returns:
        [B, H, W] uint8: 0 outside, 1 lung, 2 infection; values half-way between two greys get the
        lower level.
    """
    lower, upper = [(low + high) / 2 / 255 for low, high in itertools.pairwise(GREYS)]
    grey = probs[..., 0]
    return (grey > lower).astype(jnp.uint8) + (grey > upper).astype(jnp.uint8)


def scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Returns macro and micro averages over the levels, and the scores of each level.

    Nguyen Xuan Minh Vu doesn't say how Table 1 averages, and no single average gives its numbers,
    so both are reported.

    Args:
        confusions: [..., 3, 3] counts, rows the reference.

    Returns:
        [...] float64 in [0, 1] or NaN, by name: precision, recall, F1 and IoU, each as "..._macro",
        "..._micro" and one per level, such as "iou_lung". `overlap` says where they are NaN.
    """
    levels = overlap.level_scores(confusions)
    macro = {f"{name}_macro": x for name, x in overlap.macro_scores(confusions).items()}
    micro = {f"{name}_micro": x for name, x in overlap.micro_scores(confusions).items()}
    by_level = {
        f"{name}_{level}": levels[name][..., i]
        for name in ("precision", "recall", "f1", "iou")
        for i, level in enumerate(LEVELS)
    }
    return macro | micro | by_level
