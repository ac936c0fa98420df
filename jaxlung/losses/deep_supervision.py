"""Deep supervision: one loss of the logits of several levels of a decoder."""

from collections.abc import Callable

import jax


def weighted(
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    outputs: jax.Array | tuple[jax.Array, ...],
    targets: jax.Array,
) -> jax.Array:
    """Half the loss of the final logits, half the mean loss of the others.

    Lin and Huang, section 3.2.

    Args:
        loss: of logits and targets, [B].
        outputs: logits, or the final logits and then one or more others, each as `targets`.
        targets: what each of them should be, at the full size.

    Returns:
        [B]; the loss itself where there is one array of logits.
    """
    if not isinstance(outputs, tuple):
        return loss(outputs, targets)
    final, *others = outputs
    rest = sum(loss(logits, targets) for logits in others) / len(others)
    return 0.5 * loss(final, targets) + 0.5 * rest
