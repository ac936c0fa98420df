"""The optimizer of a config, and the parameters that it leaves as they are (`freeze`)."""

import difflib
import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import optax

from jaxlung.host import patterns
from jaxlung.models import normalization


def make_optimizer(
    *, learning_rate: float, weight_decay: float, b1: float, b2: float, eps: float, freeze: str
) -> optax.GradientTransformation:
    """Makes Adam with L2 weight decay added to the gradient before the moments, as in PyTorch.

    Nguyen Xuan Minh Vu, section 4.3; we read it as L2 rather than decoupled (AdamW).
    Updates are for a learning rate of 1: the rate itself is part of the training state.

    Args:
        learning_rate: learning rate that training starts with; only checked here.
        weight_decay: L2 coefficient.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        freeze: regular expression; parameters whose path matches get no updates; "" for none.

    Raises:
        ValueError: the learning rate is not positive, the weight decay is negative, or `b1` or
            `b2` is not in [0, 1).
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
    return optax.partition(parts, lambda params: find_frozen(params, freeze))


def find_frozen(tree: Any, pattern: str) -> Any:
    """Finds the leaves of a tree whose whole path ("encoder/conv_0/kernel") matches a pattern.

    Args:
        tree: parameters or statistics.
        pattern: regular expression; "" matches nothing.

    Returns:
        A tree of the same structure whose leaves are bool.
    """

    def matches(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        return _matches(jax.tree_util.keystr(path, simple=True, separator="/"), pattern)

    return jax.tree_util.tree_map_with_path(matches, tree)


def require_freezable(params: Any, pattern: str) -> None:
    """Raises ValueError for an invalid pattern, or one that freezes nothing or everything."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    patterns.require_quick(pattern, names, "freeze", "fullmatch")
    leaves = jax.tree.leaves(find_frozen(params, pattern))
    if pattern and all(leaves):
        raise ValueError(f"freeze: got {pattern!r}, which leaves no parameter to train.")
    if pattern and not any(leaves):
        nearest = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)[0]
        groups = dict.fromkeys(name.partition("/")[0] for name in names)
        raise ValueError(
            f"freeze: got {pattern!r}, which matches the whole path of no parameter; the nearest "
            f"is {nearest}; all begin with one of {', '.join(groups)}."
        )


def still_statistics(pattern: str) -> AbstractContextManager[None]:
    """Returns a context in which frozen BatchNorms use and keep their running statistics.

    A BatchNorm is frozen if its statistics ("encoder/norm/mean") match, or all of its parameters.
    """

    def run(
        next_fun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        if isinstance(module, normalization.BatchNorm) and context.method_name == "__call__":
            still = kwargs["use_running_average"] or _is_frozen(module, pattern)
            kwargs = kwargs | {"use_running_average": still}
        return next_fun(*args, **kwargs)

    return nn.intercept_methods(run)


def _is_frozen(norm: normalization.BatchNorm, pattern: str) -> bool:
    mean, scale, bias = (
        _matches("/".join((*norm.path, name)), pattern) for name in ("mean", "scale", "bias")
    )
    return mean or (scale and bias)


def _matches(path: str, pattern: str) -> bool:
    return bool(pattern) and re.fullmatch(pattern, path) is not None
