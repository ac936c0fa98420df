"""The bundle of functions that a task is."""

import dataclasses
from collections.abc import Callable

import jax


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
