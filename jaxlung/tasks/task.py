"""The bundle of functions that is a task."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Task:
    """What the logits of a network mean; all functions are pure and run inside jit.

    Attributes:
        name: a key of `TASKS`.
        levels: names of the levels of an annotation, background first.
        greys: the 8-bit grey that shows each level in a figure.
        needs: bits of `record` that a dataset must annotate.
        true_levels: packed masks [B, H, W] uint8 -> [B, H, W] uint8 index into `levels`.
        targets: packed masks [B, H, W] uint8 -> [B, H, W, 1] float32 in [0, 1].
        loss: logits, targets -> [B] float32, the mean over each image's pixels.
        floor: targets -> [B] float32, the least value of `loss`.
        postprocess: probabilities [B, H, W, 1] -> [B, H, W] uint8 index into `levels`.
        image_scores: confusions [N, L, L] (NumPy) -> score name -> [N] float64, one per image.
        split_scores: confusions [N, L, L] (NumPy) -> score name -> float, over all N images.
        rank_by: the image score that orders images from worst to best.

    `true_levels` and `postprocess` take NumPy arrays too.
    """

    name: str
    levels: tuple[str, ...]
    greys: tuple[int, ...]
    needs: int
    true_levels: Callable[[jax.Array], jax.Array]
    targets: Callable[[jax.Array], jax.Array]
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    floor: Callable[[jax.Array], jax.Array]
    postprocess: Callable[[jax.Array], jax.Array]
    image_scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    split_scores: Callable[[np.ndarray], dict[str, float]]
    rank_by: str
