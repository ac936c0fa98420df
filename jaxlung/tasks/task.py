"""The bundle of functions that is a task."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Task:
    """What the logits of a network mean; all functions are pure and run inside jit.

    A task about the image as a whole is a map of one pixel: its shapes below have H = W = 1.

    Attributes:
        name: key in `TASKS`.
        role: what the network finds. `predict` knows "lung", "infection", "levels" (both, in one
            map) and "diagnosis", and refuses networks of any other role.
        levels: names of the levels of an annotation, background first.
        greys: the 8-bit grey that shows each level in a figure.
        records: what a log calls its records, "images" or "volumes".
        needs: bits of `record` that a dataset must annotate.
        needs_lungs: whether the network sees only what lies inside the lungs, so that somebody must
            say where they are.
        is_map: whether every pixel has an output of its own.
        threshold: what is above this probability is level 1; None with more than two levels; 0 for
            one that is chosen on the validation split (0.5 until then).
        inputs: images [B, S, S, 1] float32 in [0, 1], packed masks [B, S, S] -> what the network
            sees.
        true_levels: packed masks [B, S, S] uint8, labels [B] -> [B, H, W] uint8, `levels` index.
        targets: packed masks [B, S, S] uint8, labels [B] -> [B, H, W, 1] float32 in [0, 1].
        loss: logits, targets -> [B] float32, the mean over each image's pixels.
        floor: targets -> [B] float32, the least value of `loss`.
        postprocess: probabilities [B, H, W, 1] -> [B, H, W] uint8 index into `levels`.
        image_scores: confusions [..., L, L] (NumPy) -> score name -> [...] float64, for images; NaN
            of 0 / 0, which means leave out and count.
        pooled_scores: the same, for confusion matrices summed over the images of a split.
        averages_images: whether a split's table has the means of `image_scores` too.
        rank_by: the image score, never NaN, that orders images from worst to best; "" without
            panels.
        epoch_score: the pooled score, never NaN, that is followed from epoch to epoch, and its
            short name.

    `true_levels` and `postprocess` take NumPy arrays too.
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
    true_levels: Callable[[jax.Array, jax.Array], jax.Array]
    targets: Callable[[jax.Array, jax.Array], jax.Array]
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    floor: Callable[[jax.Array], jax.Array]
    postprocess: Callable[[jax.Array], jax.Array]
    image_scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    pooled_scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    averages_images: bool
    rank_by: str
    epoch_score: tuple[str, str]

    @property
    def is_binary_map(self) -> bool:
        """Whether there is one mask: it has outlines, and Dice at any threshold."""
        return self.is_map and len(self.levels) == 2


def whole_image(images: jax.Array, masks: jax.Array) -> jax.Array:
    """The `inputs` of a task that hides nothing from the network."""
    del masks
    return images


def above(probs: jax.Array, threshold: float) -> jax.Array:
    """[B, H, W, 1] probabilities to [B, H, W] uint8, 1 above the threshold."""
    return (probs[..., 0] > threshold).astype(np.uint8)
