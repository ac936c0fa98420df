"""Scores of a split with their 95 % intervals over people, as JSON values."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlung.metrics import jackknife

Compute = Callable[[np.ndarray], dict[str, np.ndarray]]
# The least and the most that a score can be; of all others 0 and 1.
RANGES = {
    **dict.fromkeys(("loss", "loss_excess", "hd95", "asd"), (0.0, math.inf)),
    **dict.fromkeys(("volume_ml", "true_volume_ml"), (0.0, math.inf)),
    "volume_error_ml": (-math.inf, math.inf),
    "share_error": (-1.0, 1.0),
}


def with_intervals(
    compute: Compute, people: np.ndarray, compared: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, Any]]:
    """ "scores" of all images, and their "intervals" over the people on them.

    Args:
        compute: weights [R, N], how often each image counts -> score name -> [R], NaN where a
            score has no value.
        people: [N] str.
        compared: of scores that compare two kinds of images, as an AUC does, which are of the
            first, [N] bool. Such a score rests on as many people as the rarer kind has.
    """
    groups = jackknife.group_people(people)
    each = jackknife.weigh_each(groups)
    once = compute(np.ones((1, len(people)), np.int32))
    alone, left_out = compute(each), compute(1 - each)
    intervals = {}
    for name, score in once.items():
        if name in (compared or {}):
            part, number = slice(None), count_rarer(groups, compared[name])
        else:  # Whoever has no such score, a sensitivity without a lesion, tells nothing of it.
            part = ~np.isnan(alone[name])
            number = np.count_nonzero(part)
        ends = jackknife.interval(score[0], left_out[name][part], number, *find_range(name))
        intervals[name] = [to_json(end) for end in ends]
    scores = {name: to_json(float(score[0])) for name, score in once.items()}
    return {"scores": scores, "intervals": intervals}


def count_rarer(groups: np.ndarray, is_first: np.ndarray) -> int:
    """How many of the groups [N] have an image of the rarer of two kinds, [N] bool."""
    return min(len(np.unique(groups[kind])) for kind in (is_first, ~is_first))


def find_range(name: str) -> tuple[float, float]:
    """The least and the most that a score can be; +-inf without a limit."""
    return RANGES.get(name.removesuffix("_stored"), (0.0, 1.0))


def to_json(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
