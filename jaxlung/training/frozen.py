"""Parts of a network that don't train: named by a pattern over the paths of their parameters."""

import difflib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax

from jaxlung.host import patterns


def which(tree: Any, pattern: str) -> Any:
    """For every leaf, whether the whole of its path ("encoder/conv_0/kernel") matches.

    Args:
        tree: parameters or statistics.
        pattern: regular expression; "" matches nothing.

    Returns:
        The tree, of bool.
    """

    def matches(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        return _matches(jax.tree_util.keystr(path, simple=True, separator="/"), pattern)

    return jax.tree_util.tree_map_with_path(matches, tree)


def require_sensible(params: Any, pattern: str) -> None:
    """Raises ValueError for a pattern that is none, or that freezes nothing or everything."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    patterns.require_quick(pattern, names, "freeze", "fullmatch")
    leaves = jax.tree.leaves(which(params, pattern))
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
    """Within it, frozen BatchNorms use their running statistics and leave them as they are.

    Frozen is one whose statistics ("encoder/norm/mean") match, or all of whose parameters do.
    """

    def run(
        next_fun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        if isinstance(module, nn.BatchNorm) and context.method_name == "__call__":
            still = kwargs["use_running_average"] or _is_frozen(module, pattern)
            kwargs = kwargs | {"use_running_average": still}
        return next_fun(*args, **kwargs)

    return nn.intercept_methods(run)


def _is_frozen(norm: nn.BatchNorm, pattern: str) -> bool:
    uses = {"scale": norm.use_scale, "bias": norm.use_bias}
    params = [
        _matches("/".join((*norm.path, name)), pattern) for name, used in uses.items() if used
    ]
    return _matches("/".join((*norm.path, "mean")), pattern) or (bool(params) and all(params))


def _matches(path: str, pattern: str) -> bool:
    return bool(pattern) and re.fullmatch(pattern, path) is not None
