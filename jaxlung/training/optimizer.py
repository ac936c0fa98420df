"""Optimizers: optax chains made from a config's section."""

import math

import optax

from jaxlung.training import frozen


def make_optimizer(
    *, learning_rate: float, weight_decay: float, b1: float, b2: float, eps: float, freeze: str
) -> optax.GradientTransformation:
    """Adam with L2 weight decay added to the gradient *before* the moments, as PyTorch's `Adam`.

    Nguyen Xuan Minh Vu, section 4.3; that it is L2 and not decoupled (AdamW) is our reading.
    Updates come out for a learning rate of 1: the rate itself is part of the training state.

    Args:
        learning_rate: step size that training starts with; only checked here.
        weight_decay: L2 coefficient.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        freeze: parameters whose path this regular expression matches get no updates; "" for none.

    Raises:
        ValueError: a learning rate that is not positive, a negative weight decay, or moments
            that don't decay.
    """
    if not 0 < learning_rate < math.inf:  # Also catches NaN.
        raise ValueError(f"optimizer.learning_rate: got {learning_rate}, want a number above 0.")
    if weight_decay < 0:
        raise ValueError(f"optimizer.weight_decay: got {weight_decay}, want 0 or more.")
    for name, decay in (("b1", b1), ("b2", b2)):
        if not 0 <= decay < 1:
            raise ValueError(f"optimizer.{name}: got {decay}, want 0 or more and less than 1.")
    adam = optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.scale(-1.0),
    )
    if not freeze:
        return adam
    parts = {True: optax.set_to_zero(), False: adam}
    return optax.partition(parts, lambda params: frozen.which(params, freeze))
