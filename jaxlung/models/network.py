"""The interface that every network has."""

import flax.linen as nn
import jax


class Network(nn.Module):
    """A network that maps images or volumes to logits; the base class of all of `MODELS`."""

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] or [B, D, H, W, 1] float32 in [0, 1].
            train: compute as in training: batch statistics, dropout, noise.

        Returns:
            Float32 logits; a tuple of them, the final ones first, if other levels are trained too.
        """
        raise NotImplementedError

    @nn.nowrap
    def input_multiples(self) -> tuple[int | None, ...]:
        """Returns the number that each size of the input must be a multiple of.

        One number for each of H, W or D, H, W; None where a trained network takes no other size
        than the one that it was trained on.
        """
        raise NotImplementedError
