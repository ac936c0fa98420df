"""The interface that every task has."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)


class TrueLevels(Protocol):
    """A function of packed masks and labels that returns indices into `Task.levels`."""

    def __call__(self, masks: Array, labels: Any, /) -> Array:
        """Maps [B, S, S] uint8 and [B] to [B, H, W] uint8, NumPy to NumPy and JAX to JAX."""


class Postprocess(Protocol):
    """A function of probabilities that returns indices into `Task.levels`."""

    def __call__(self, probs: Array, /) -> Array:
        """Maps [B, H, W, 1] float32 to [B, H, W] uint8, NumPy to NumPy and JAX to JAX."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The meaning of a network's logits: facts and pure functions that also run inside jit.

    Shapes are those of images. A task on volumes has a depth axis before each H and S. A task on
    the image as a whole is a map of one pixel: its shapes have H = W = 1.

    Attributes:
        name: key in `TASKS`.
        role: what the network finds. `predict` writes "lung", "infection", "levels" (both, in one
            map) and "diagnosis", and refuses networks of any other role.
        levels: names of the levels of an annotation, background first.
        greys: the 8-bit grey that shows each level in a figure.
        records: what a log calls the records, "images" or "volumes".
        needs: bits of `record` that a dataset must annotate.
        needs_lungs: True if the network sees only what lies inside the lungs, so that a lung mask
            must come with every image.
        is_map: True if every pixel has an output of its own.
        threshold: probability above which a pixel belongs to level 1; None with more than two
            levels; 0 to choose it on the validation split (0.5 is used until then).
        inputs: function of images [B, S, S, 1] float32 in [0, 1] and packed masks [B, S, S] uint8
            that returns what the network sees, [B, ..., 1] float32.
        true_levels: function of packed masks [B, S, S] uint8 and labels [B] that returns indices
            into `levels`, [B, H, W] uint8.
        targets: function of packed masks [B, S, S] uint8 and labels [B] that returns
            [B, H, W, 1] float32 in [0, 1].
        loss: function of logits and targets, both [B, H, W, 1], that returns the mean over each
            image's pixels, [B] float32.
        floor: function of targets that returns the lowest possible value of `loss`, [B] float32.
        postprocess: function of probabilities [B, H, W, 1] that returns indices into `levels`,
            [B, H, W] uint8.
        image_scores: function of NumPy confusion matrices [..., L, L], one for each image, that
            returns [...] float64 for each name of a score. An undefined score, 0 / 0, is NaN; means
            leave it out and count it.
        pooled_scores: function like `image_scores`, for confusion matrices summed over the images
            of a split.
        averages_images: True if the table of a split also has the means of `image_scores`.
        rank_by: name of the image score, never NaN, that orders images from worst to best; "" if no
            panels are drawn.
        epoch_score: name of the pooled score, never NaN, that is logged after each epoch, and its
            short name.

    `true_levels` and `postprocess` also take NumPy arrays, and then return NumPy arrays.
    """

    name: str
    role: str
    levels: tuple[str, ...]
    greys: tuple[int, ...]
    records: str
    needs: int
    needs_lungs: bool
    is_map: bool
    threshold: float | None
    inputs: Callable[[jax.Array, jax.Array], jax.Array]
    true_levels: TrueLevels
    targets: Callable[[jax.Array, jax.Array], jax.Array]
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    floor: Callable[[jax.Array], jax.Array]
    postprocess: Postprocess
    image_scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    pooled_scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    averages_images: bool
    rank_by: str
    epoch_score: tuple[str, str]

    @property
    def is_binary_map(self) -> bool:
        """True if the output is one mask, which has an outline, and a Dice at every threshold."""
        return self.is_map and len(self.levels) == 2


def with_threshold(task: Task, thresholds: Sequence[float]) -> Task:
    """Returns the task with the mean of `thresholds`; the task itself if they are all its own."""
    if set(thresholds) == {task.threshold}:
        return task
    mean = sum(thresholds) / len(thresholds)
    postprocess = functools.partial(above, threshold=mean)
    return dataclasses.replace(task, threshold=mean, postprocess=postprocess)


def with_temperature(task: Task, temperature: float) -> Task:
    """Returns the task with its threshold moved along with the probabilities, so masks stay.

    A probability p becomes sigmoid(logit(p) / temperature), and so does the threshold: 0.5 stays
    0.5. A threshold that is yet to be chosen (0) stays so.

    Args:
        task: a task whose output is a probability.
        temperature: number above 0 that logits are divided by.
    """
    if not task.threshold:
        return task
    moved = 1 / (1 + (1 / task.threshold - 1) ** (1 / temperature))
    return with_threshold(task, [moved])


def whole_image(images: jax.Array, masks: jax.Array) -> jax.Array:
    """Returns the images; the `inputs` of a task that hides nothing from the network."""
    del masks
    return images


def above(probs: Array, threshold: float) -> Array:
    """Returns 1 above the threshold, else 0: [B, ..., 1] float32 in [0, 1] to [B, ...] uint8."""
    return (probs[..., 0] > threshold).astype(np.uint8)
