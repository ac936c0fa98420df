"""COVID-19 or not (Zhang, section 5), from a whole X-ray or from the lungs in it."""

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
    """A yes or no for every image, as a map of one pixel.

    Args:
        lungs: what the network sees: "none", all of the image; "predicted" or "true", only what
            lies inside the lungs that a lung network found, or that are annotated.
        crop_pixels: how many are cut off at the top, at the left and at the right of the picture;
            nothing is at the bottom.
        threshold: COVID-19 above this probability; 0 chooses it on the validation split.

    Raises:
        ValueError: an unknown choice of lungs, a crop that is not three counts, or a threshold
            outside [0, 1).
    """
    if lungs not in LUNGS:
        raise ValueError(f"task.lungs: got {lungs!r}, want one of {', '.join(LUNGS)}.")
    if not is_crop(crop_pixels):
        raise ValueError(
            f"task.crop_pixels: got {crop_pixels}, want three counts of pixels, off the top, the "
            "left and the right: 10,10,10."
        )
    if not 0 <= threshold < 1:
        raise ValueError(
            f"task.threshold: got {threshold}, want a number between 0 and 1, or 0 to choose it on "
            "the validation split."
        )
    return task.Task(
        name="diagnosis",
        role="diagnosis",
        levels=("other", "COVID-19"),
        greys=(0, 255),
        records="images",
        needs=record.LUNG,
        needs_lungs=lungs != "none",
        is_map=False,
        threshold=threshold,
        inputs=functools.partial(inputs, in_lungs=lungs != "none", crop=tuple(crop_pixels)),
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
    """Returns whether these are three whole numbers, none below 0."""
    counts = crop_pixels if isinstance(crop_pixels, Sequence) else ()
    return len(counts) == 3 and all(isinstance(n, int) and n >= 0 for n in counts)


def inputs(
    images: jax.Array, masks: jax.Array, *, in_lungs: bool, crop: tuple[int, int, int]
) -> jax.Array:
    """What the network sees of [B, S, S, 1]: [B, S - top, S - left - right, 1].

    Raises:
        ValueError: nothing is left after the crop.
    """
    top, left, right = crop
    size = images.shape[1]
    if size <= top or size <= left + right:
        raise ValueError(
            f"task.crop_pixels: got {crop} for images of {size} pixels; want less than that off "
            "the top, and off left and right together."
        )
    if in_lungs:
        images = only_inside(images, (masks & record.LUNG) != 0)
    return images[:, top:, left : size - right]


def only_inside(images: jax.Array, inside: jax.Array) -> jax.Array:
    """The X-ray inside a mask, scaled to [0, 1] by what is there; 0 outside.

    The scale of the whole image would tell something of what lies outside.

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        inside: [B, H, W] bool.
    """
    inside = inside[..., None]
    low = jnp.min(jnp.where(inside, images, 1), axis=(1, 2), keepdims=True)
    high = jnp.max(jnp.where(inside, images, 0), axis=(1, 2), keepdims=True)
    scaled = (images - low) / jnp.maximum(high - low, 1 / 255)  # One grey level at least.
    return jnp.where(inside, scaled, 0)


def one_pixel(labels: jax.Array) -> jax.Array:
    """[B] to [B, 1, 1] uint8."""
    return labels.reshape(-1, 1, 1).astype(np.uint8)


def scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the images of a split, from [..., 2, 2] counts of images.

    NaN where there is nothing to divide by: sensitivity without an image of COVID-19, specificity
    without another one, precision where none is called COVID-19, F1 without either. A split is no
    mask: that it has no such image is not right or wrong.
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
    """Of one image: whether it was right."""
    return {"right": np.trace(confusions, axis1=-2, axis2=-1).astype(np.float64)}
