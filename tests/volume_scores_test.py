"""Scores of volumes: thresholds against counting, masks written where they were."""

import numpy as np

from jaxlung import train_step, volume_scores


def test_counts_at_every_threshold():
    np_rng = np.random.default_rng(0)
    probs = np_rng.random((5, 6, 7)).astype(np.float32)
    probs.flat[:19] = np.float32(train_step.THRESHOLDS)  # Not above itself.
    levels = (np_rng.random((5, 6, 7)) > 0.7).astype(np.uint8)
    got = volume_scores.threshold_confusions(levels, probs)
    for threshold, confusion in zip(train_step.THRESHOLDS, got, strict=True):
        preds = probs > np.float32(threshold)
        want = [[np.sum((levels == t) & (preds == p)) for p in (0, 1)] for t in (0, 1)]
        np.testing.assert_array_equal(confusion, want)
