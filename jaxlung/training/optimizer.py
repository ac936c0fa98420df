"""The optimizer of a config, and the parameters that it leaves as they are (`freeze`)."""

import dataclasses
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

NAMES = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "polynomial", "one_cycle")


Schedule = Callable[[jax.Array], jax.Array]  # finished updates -> share of the learning rate


@dataclasses.dataclass(frozen=True)
class Settings:
    """The section `optimizer` of a config.

    Attributes:
        name: "adam", with L2 weight decay added to the gradient before the moments, as in PyTorch
            (Nguyen Xuan Minh Vu, section 4.3; we read it as L2); "adamw", with decoupled decay
            (Loshchilov and Hutter, 2019); or "sgd", with Nesterov momentum and L2 decay.
        learning_rate: the largest learning rate of the schedule.
        weight_decay: coefficient of the decay; "adamw" multiplies it by the learning rate.
        b1: decay of the first moment; "adam" and "adamw".
        b2: decay of the second moment; "adam" and "adamw".
        eps: added to the root of the second moment; "adam" and "adamw".
        momentum: decay of the sum of gradients; "sgd".
        clip_norm: gradients of all parameters together are scaled down to this norm; 0: never.
        schedule: course of the learning rate over the whole run: "constant", "cosine",
            "polynomial" or "one_cycle" (Smith, 2018, with cosines). `control` multiplies it.
        warmup_fraction: share of the run in which the rate rises, linearly from 0 or, in
            "one_cycle", along a cosine from a 25th.
        end_fraction: rate at the end over the largest; "cosine" and "polynomial".
        power: of "polynomial": 1 is a straight line, 0.9 nnU-Net's.
        average_decay: weights and statistics are averaged over about 1 / (1 - average_decay) steps
            for everything but training (`Averaged`); 0: not.

    Raises:
        ValueError: a field is out of range.
    """

    name: str
    learning_rate: float
    weight_decay: float
    b1: float
    b2: float
    eps: float
    momentum: float
    clip_norm: float
    schedule: str
    warmup_fraction: float
    end_fraction: float
    power: float
    average_decay: float

    def __post_init__(self) -> None:
        for name, choices in (("name", NAMES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"optimizer.{name}: got {getattr(self, name)!r}, want one of "
                    f"{', '.join(choices)}."
                )
        for name in ("learning_rate", "power"):
            if not 0 < getattr(self, name) < math.inf:  # Also catches NaN.
                raise ValueError(f"optimizer.{name}: got {getattr(self, name)}, want above 0.")
        for name in ("weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"optimizer.{name}: got {getattr(self, name)}, want 0 or more.")
        for name in ("b1", "b2", "momentum", "warmup_fraction", "end_fraction", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"optimizer.{name}: got {getattr(self, name)}, want 0 or more and less than 1."
                )
        if self.schedule == "one_cycle" and not self.warmup_fraction:
            raise ValueError(
                "optimizer.warmup_fraction: got 0, want more for a one_cycle schedule, such as 0.3."
            )


def make_optimizer(settings: Settings, freeze: str) -> optax.GradientTransformation:
    """Makes the update rule of a config, for a learning rate of 1.

    The rate itself is part of the training state.

    Args:
        settings: the section `optimizer`.
        freeze: regular expression; parameters whose path matches get no updates; "" for none.
    """
    decay = optax.add_decayed_weights(settings.weight_decay)
    adam = optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps)
    rules = {
        "adam": (decay, adam),
        "adamw": (adam, decay),
        "sgd": (decay, optax.trace(settings.momentum, nesterov=True)),
    }
    clip = [optax.clip_by_global_norm(settings.clip_norm)] * (settings.clip_norm > 0)
    tx = optax.chain(*clip, *rules[settings.name], optax.scale(-1.0))
    if not freeze:
        return tx
    parts = {True: optax.set_to_zero(), False: tx}
    return optax.partition(parts, lambda params: find_frozen(params, freeze))


def make_schedule(settings: Settings, total_steps: int) -> Schedule:
    """Makes the course of the learning rate over `total_steps` updates, as shares of the rate."""
    warmup_steps = round(settings.warmup_fraction * total_steps)
    if settings.schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(
            max(total_steps, 2), 1.0, pct_start=settings.warmup_fraction
        )
    left = max(total_steps - warmup_steps, 1)
    fall = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, left, alpha=settings.end_fraction),
        "polynomial": optax.polynomial_schedule(1.0, settings.end_fraction, settings.power, left),
    }[settings.schedule]
    if not warmup_steps:
        return fall
    rise = optax.linear_schedule(0.0, 1.0, warmup_steps)
    return optax.join_schedules([rise, fall], [warmup_steps])


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
