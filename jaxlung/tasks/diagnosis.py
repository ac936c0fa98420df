"""COVID-19, yes or no (Zhang, section 5), from a whole X-ray or only from its lungs."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.data import record
from jaxlung.losses import cross_entropy
from jaxlung.metrics import overlap
from jaxlung.tasks import task

LUNGS = ("none", "predicted", "true")


def make_task(*, lungs: str, crop_pixels: Sequence[int], threshold: float) -> task.Task:
    """Returns the task of a yes or no for each image, as a map of one pixel.

    Args:
        lungs: what the network sees: "none" for the whole image, "predicted" or "true" for only
            what lies inside the lungs that a lung network found or that are annotated.
        crop_pixels: number of pixels to cut off at the top, the left and the right of the image;
            the bottom is not cropped.
        threshold: probability above which the answer is COVID-19, in (0, 1); 0 to choose it on the
            validation split.

    Raises:
        ValueError: unknown choice of lungs, crop that is not three counts, or threshold outside
            [0, 1).
    """
    if lungs not in LUNGS:
        raise ValueError(f"task.lungs: got {lungs!r}, want one of {', '.join(LUNGS)}.")
    if not is_crop(crop_pixels):
        raise ValueError(
            f"task.crop_pixels: got {crop_pixels}, want three counts of pixels to cut off at the "
            "top, the left and the right, such as 10,10,10."
        )
    if not 0 <= threshold < 1:
        raise ValueError(
            f"task.threshold: got {threshold}, want a number between 0 and 1, or 0 to choose it on "
            "the validation split."
        )
    top, left, right = crop_pixels
    in_lungs = lungs != "none"
    return task.Task(
        name="diagnosis",
        role="diagnosis",
        levels=("other", "COVID-19"),
        greys=(0, 255),
        records="images",
        needs=record.LUNG,
        needs_lungs=in_lungs,
        is_map=False,
        threshold=threshold,
        inputs=functools.partial(inputs, in_lungs=in_lungs, crop=(top, left, right)),
        true_levels=lambda masks, labels: one_pixel(labels),
        targets=lambda masks, labels: one_pixel(labels)[..., None].astype(jnp.float32),
        loss=cross_entropy.bce,
        floor=cross_entropy.bce_floor,
        postprocess=functools.partial(task.above, threshold=threshold or 0.5),
        image_scores=image_scores,
        pooled_scores=scores,
        averages_images=False,
        rank_by="",
        epoch_score=("accuracy", "accuracy"),
    )


def is_crop(crop_pixels: Any) -> bool:
    """Returns whether `crop_pixels` are three whole numbers of 0 or more."""
    counts = crop_pixels if isinstance(crop_pixels, Sequence) else ()
    return len(counts) == 3 and all(isinstance(n, int) and n >= 0 for n in counts)


def inputs(
    images: jax.Array, masks: jax.Array, *, in_lungs: bool, crop: tuple[int, int, int]
) -> jax.Array:
    """Returns what the network sees: the cropped image, or the cropped inside of its lungs.

    Args:
        images: [B, S, S, 1] float32 in [0, 1].
        masks: [B, S, S] uint8, bits of `record`.
        in_lungs: show only what lies inside the lungs.
        crop: pixels cut off at the top, the left and the right.

    Returns:
        [B, S - top, S - left - right, 1] float32 in [0, 1].

    Raises:
        ValueError: the crop leaves nothing.
    """
    top, left, right = crop
    size = images.shape[1]
    if size <= top or size <= left + right:
        raise ValueError(
            f"task.crop_pixels: got {crop} for images of {size} pixels; want less than that at the "
            "top, and at the left and right together."
        )
    if in_lungs:
        images = only_inside(images, (masks & record.LUNG) != 0)
    return images[:, top:, left : size - right]


def only_inside(images: jax.Array, inside: jax.Array) -> jax.Array:
    """Returns the X-ray inside a mask, scaled to [0, 1] by its own darkest and brightest pixel.

    The scale of the whole image would reveal something about what lies outside.

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        inside: [B, H, W] bool; may be all False.

    Returns:
        [B, H, W, 1] float32 in [0, 1], 0 outside the mask.
    """
    inside = inside[..., None]
    low = jnp.min(jnp.where(inside, images, 1), axis=(1, 2), keepdims=True)
    high = jnp.max(jnp.where(inside, images, 0), axis=(1, 2), keepdims=True)
    scaled = (images - low) / jnp.maximum(high - low, 1 / 255)  # One grey level at least.
    return jnp.where(inside, scaled, 0)


def one_pixel(labels: Any) -> Any:
    """Returns labels as maps of one pixel: [B], JAX or NumPy, to [B, 1, 1] uint8 of the same."""
    return labels.reshape(-1, 1, 1).astype(np.uint8)


def scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of a split of images.

    Args:
        confusions: [..., 2, 2] counts of images, rows the reference, COVID-19 last.

    Returns:
        [...] float64 in [0, 1] by name. NaN where there is nothing to divide by: sensitivity
        without an image of COVID-19, specificity without any other image, precision where no image
        is called COVID-19, F1 where no image is either. Unlike an empty mask, which may be right, a
        split without images of a class is neither right nor wrong.
    """
    binary = overlap.binary_scores(confusions)
    known = np.asarray(confusions)[..., 0, 0] < np.sum(confusions, axis=(-2, -1))
    return {
        "accuracy": binary["accuracy"],
        "sensitivity": binary["sensitivity"],
        "specificity": binary["specificity"],
        "precision": binary["precision"],
        "f1": np.where(known, binary["dice"], np.nan),
    }


def image_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Returns "right", [...]: 1 for an image whose class was found, else 0."""
    return {"right": np.trace(confusions, axis1=-2, axis2=-1).astype(np.float64)}
