"""Averages networks of one role over a CT, on the device; only what is written comes home.

Members on different devices predict side by side. Those on the same devices take turns, so that a
device holds the map of one member at a time; the first member's devices also hold the mean.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.predict import ensemble
from jaxlung.volume import device_map


def find(
    each: ensemble.Ensemble,
    item: record.VolumeRecord,
    lungs: np.ndarray | None,
    *,
    keep_probs: bool,
) -> ensemble.Found:
    """Predicts a CT with all members of an ensemble; see `Ensemble.combine`.

    Args:
        each: networks for CTs.
        item: the CT; its mask must hold the lungs if the networks need them.
        lungs: [D, H, W] bool, where the entropy is measured; None for everywhere.
        keep_probs: True to bring the probabilities and their standard deviation to the host.
    """
    mean, spread, disagreement = _average(each, item)
    preds = each.judge.mask_of(mean)
    certainty = {
        "entropy_bits": mean.mean_entropy_bits(None if lungs is None or not lungs.any() else lungs)
    }
    if preds.any():
        certainty["confidence"] = mean.mean(preds)
    return ensemble.Found(
        probs=mean.fetch() if keep_probs else None,
        preds=preds.view(np.uint8),
        disagreement=disagreement,
        spread=spread.fetch() if keep_probs and spread else None,
        certainty=certainty,
    )


def _average(
    each: ensemble.Ensemble, item: record.VolumeRecord
) -> tuple[device_map.Map, device_map.Map | None, float]:
    """Returns mean, standard deviation and disagreement; None and NaN for one member."""
    if len(each.members) == 1:
        return each.members[0].find_in_volume(item), None, math.nan
    maps = _find_each(each, item)
    union, found = next(maps)
    running = device_map.Running.of(found)
    for mask, found in maps:
        union |= mask
        running = running.add(found.moved(running.mean))
    spread = running.deviation()
    return running.mean, spread, spread.mean(union)


def _find_each(
    each: ensemble.Ensemble, item: record.VolumeRecord
) -> Iterator[tuple[np.ndarray, device_map.Map]]:
    """Yields mask and map of every member, which lie on its own devices."""
    prepared: dict[Any, volumes.Volume] = {}  # Members that see the same share it.
    for turn in each.turns:
        queued = []
        for member in turn:  # All are queued before the first one is waited for.
            if member.input_form not in prepared:
                prepared[member.input_form] = member.prepare(item)
            ready = prepared[member.input_form]
            queued.append(member.find_in_volume(item, whole=True, prepared=ready))
        for member, found in zip(turn, queued, strict=True):
            yield member.mask_of(found), found
