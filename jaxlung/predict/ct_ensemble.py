"""Averages networks of one role over a CT, on the device; only what is written comes home."""

import math

import numpy as np

from jaxlung.data import record
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
    first, *others = each.members
    if not others:
        return first.find_in_volume(item), None, math.nan
    found = first.find_in_volume(item, whole=True)
    union, running = first.mask_of(found), device_map.Running.of(found)
    for member in others:
        found = member.find_in_volume(item, whole=True)
        union |= member.mask_of(found)
        running = running.add(found)
    spread = running.deviation()
    return running.mean, spread, spread.mean(union)
