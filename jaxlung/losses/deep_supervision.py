"""Deep supervision: one loss for the logits of several levels of a decoder."""

from collections.abc import Callable

import jax


def weighted(
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    outputs: jax.Array | tuple[jax.Array, ...],
    targets: jax.Array,
) -> jax.Array:
    """Returns half the loss of the final logits plus half the mean loss of the other logits.

    Lin and Huang, section 3.2.

    Args:
        loss: function of logits and targets that returns [B].
        outputs: one array of logits, or a tuple of the final logits and one or more others; each
            has the shape of `targets`.
        targets: [B, ..., 1] float32 in [0, 1], at full size.

    Returns:
        [B] float32; just the loss if there is one array of logits.
    """
    if not isinstance(outputs, tuple):
        return loss(outputs, targets)
    final, *others = outputs
    rest = sum(loss(logits, targets) for logits in others) / len(others)
    return 0.5 * loss(final, targets) + 0.5 * rest
