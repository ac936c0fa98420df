"""Computes scores of a split and their 95 % intervals over people, as JSON values."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlung.metrics import jackknife

Compute = Callable[[np.ndarray], dict[str, np.ndarray]]
# Lowest and highest possible value of a score; 0 and 1 for those that are not listed.
RANGES = {
    **dict.fromkeys(("loss", "loss_excess", "hd95", "asd"), (0.0, math.inf)),
    **dict.fromkeys(("volume_ml", "true_volume_ml"), (0.0, math.inf)),
    "volume_error_ml": (-math.inf, math.inf),
    "share_error": (-1.0, 1.0),
}


def with_intervals(
    compute: Compute, people: np.ndarray, compared: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns "scores" over all images, and their "intervals" over the people on the images.

    Args:
        compute: function from weights [R, N], the number of times that each image counts, to
            score name -> [R], NaN where a score is undefined.
        people: [N] str, the person on each image.
        compared: name -> [N] bool, for scores that compare two kinds of images, as an AUC does:
            True for the images of the first kind. The size of the sample is then the number of
            people of the rarer kind.
    """
    groups = jackknife.group_people(people)
    each = jackknife.weigh_each(groups)
    once = compute(np.ones((1, len(people)), np.int32))
    alone, left_out = compute(each), compute(1 - each)
    intervals, compared = {}, compared or {}
    for name, score in once.items():
        if name in compared:
            part = np.ones(len(alone[name]), bool)
            number = count_rarer(groups, compared[name])
        else:  # People without such a score (a sensitivity without a lesion) don't count.
            part = ~np.isnan(alone[name])
            number = int(np.count_nonzero(part))
        ends = jackknife.interval(score[0], left_out[name][part], number, *find_range(name))
        intervals[name] = [to_json(end) for end in ends]
    scores = {name: to_json(float(score[0])) for name, score in once.items()}
    return {"scores": scores, "intervals": intervals}


def count_rarer(groups: np.ndarray, is_first: np.ndarray) -> int:
    """Counts the groups [N] that have an image of the rarer of two kinds, [N] bool."""
    return min(len(np.unique(groups[kind])) for kind in (is_first, ~is_first))


def find_range(name: str) -> tuple[float, float]:
    """Returns the lowest and the highest possible value of a score; +-inf without a limit."""
    return RANGES.get(name.removesuffix("_stored"), (0.0, 1.0))


def to_json(value: float) -> float | None:
    """Returns the value, or None for NaN and infinity, which JSON doesn't have."""
    return value if math.isfinite(value) else None
