"""Overlap scores against scikit-learn."""

import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from sklearn import metrics

from jaxlung.metrics import overlap

SKLEARN = {
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "f1": metrics.f1_score,
    "iou": metrics.jaccard_score,
}


def draw(num_levels, shape=(3, 7, 9), seed=0):
    return np.random.default_rng(seed).integers(0, num_levels, (2, *shape))


class ConfusionTest(parameterized.TestCase):
    @parameterized.product(num_levels=[2, 3], shape=[(3, 7, 9), (3, 4, 5, 6)])
    def test_matches_sklearn_per_image_and_volume(self, num_levels, shape):
        levels, preds = draw(num_levels, shape)
        got = jax.jit(overlap.confusion, static_argnums=2)(levels, preds, num_levels)
        for image in range(3):
            want = metrics.confusion_matrix(
                levels[image].ravel(), preds[image].ravel(), labels=range(num_levels)
            )
            np.testing.assert_array_equal(got[image], want)
            one = overlap.confusion_of_one(levels[image], preds[image], num_levels)
            np.testing.assert_array_equal(one, want)

    @parameterized.product(dtypes=list(itertools.product((bool, np.uint8, np.int64), repeat=2)))
    def test_masks_are_counted_as_levels_are(self, dtypes):
        masks = np.random.default_rng(0).random((2, 5, 6, 7)) < [[[[0.3]]], [[[0.6]]]]
        levels, preds = (mask.astype(dtype) for mask, dtype in zip(masks, dtypes, strict=True))
        for some in (np.s_[:], np.s_[:0], np.s_[1:2]):
            got = overlap.confusion_of_one(levels[some], preds[some], 2)
            assert got.dtype == np.int64
            # Three levels go the long way.
            want = overlap.confusion_of_one(levels[some], preds[some], 3)
            np.testing.assert_array_equal(got, want[:2, :2])

    @parameterized.parameters((-1, "negative"), (2, "reshape"))
    def test_what_is_no_level_is_an_error_of_masks_too(self, strange, message):
        levels = np.array([0, 1, strange], np.int8)
        with pytest.raises(ValueError, match=message):
            overlap.confusion_of_one(levels, levels, 2)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match="must agree"):
            overlap.confusion(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 3)), 2)
        with pytest.raises(ValueError, match="must agree"):
            overlap.confusion_of_one(np.zeros((2, 2)), np.zeros((2, 3)), 2)

    def test_at_thresholds_it_is_sklearns_of_what_is_above(self):
        levels, thresholds = draw(2)[0], (0.0, 0.25, 0.5, 0.9)
        # Eighths are exact: some pixels are at a threshold, and not above it.
        probs = np.random.default_rng(1).integers(0, 9, levels.shape).astype(np.float32) / 8
        got = jax.jit(overlap.threshold_confusions, static_argnums=2)(levels, probs, thresholds)
        assert got.shape == (3, 4, 2, 2)
        for image, (i, threshold) in itertools.product(range(3), enumerate(thresholds)):
            above = (probs[image] > threshold).ravel()
            want = metrics.confusion_matrix(levels[image].ravel(), above, labels=[0, 1])
            np.testing.assert_array_equal(got[image, i], want)


class ScoresTest(parameterized.TestCase):
    @parameterized.product(name=list(SKLEARN), num_levels=[2, 3], seed=[0, 1])
    def test_match_sklearn(self, name, num_levels, seed):
        levels, preds = draw(num_levels, seed=seed)
        counts = overlap.confusion_of_one(levels, preds, num_levels)
        flat = levels.ravel(), preds.ravel()
        for average, got in {
            None: overlap.level_scores(counts)[name],
            "macro": overlap.macro_scores(counts)[name],
            "micro": overlap.micro_scores(counts)[name],
        }.items():
            np.testing.assert_allclose(got, SKLEARN[name](*flat, average=average))

    @parameterized.product(name=list(SKLEARN), seed=[0, 1, 2, 3, 4, 5])
    def test_levels_that_are_missing_score_as_in_sklearn(self, name, seed):
        """Of five levels some are not in the reference, not predicted, or neither."""
        np_rng = np.random.default_rng(seed)
        levels, preds = (np_rng.choice(np_rng.integers(0, 5, 3), 20) for _ in range(2))
        counts = overlap.confusion_of_one(levels, preds, 5)
        known = {"zero_division": math.nan} if name != "iou" else {"zero_division": 1.0}
        with warnings.catch_warnings():  # Of a mean of NaN alone.
            warnings.simplefilter("ignore")
            want = SKLEARN[name](levels, preds, labels=range(5), average=None, **known)
        got = overlap.level_scores(counts)[name]
        # Two empty masks: Dice is 1, our convention.
        want = np.where(np.isnan(want) & (name == "f1"), 1.0, want)
        np.testing.assert_allclose(got, want)
        np.testing.assert_allclose(overlap.macro_scores(counts)[name], np.nanmean(want))

    def test_nothing_to_find_and_nothing_found_is_right(self):
        scores = overlap.level_scores(np.array([[10, 0], [0, 0]]))
        for name in ("f1", "iou"):
            np.testing.assert_array_equal(scores[name], [1, 1])
        for name in ("precision", "recall"):  # Of nothing there is no share.
            np.testing.assert_array_equal(scores[name], [1, math.nan])

    @parameterized.parameters(
        ([[6, 4], [0, 0]], {"precision": 0, "recall": math.nan}),
        ([[6, 0], [4, 0]], {"precision": math.nan, "recall": 0}),
    )
    def test_only_found_or_only_missed_scores_0_or_nothing(self, counts, want):
        scores = overlap.level_scores(np.array(counts))
        for name, score in (want | {"f1": 0, "iou": 0}).items():
            np.testing.assert_array_equal(scores[name][1], score)

    def test_scores_of_no_level_have_no_mean_and_no_warning(self):
        nothing = np.zeros((2, 3, 3), np.int64)
        for name in ("precision", "recall"):
            np.testing.assert_array_equal(overlap.macro_scores(nothing)[name], [math.nan] * 2)
        np.testing.assert_array_equal(overlap.binary_scores(np.zeros((2, 2)))["accuracy"], math.nan)

    def test_a_masks_scores_by_hand(self):
        """TN 80, FP 4, FN 6, TP 10; then an image that is all lungs, and is found to be."""
        got = overlap.binary_scores(np.array([[[80, 4], [6, 10]], [[0, 0], [0, 7]]]))
        want = {
            "dice": [20 / 30, 1],
            "iou": [10 / 20, 1],
            "mean_iou": [(10 / 20 + 80 / 90) / 2, 1],
            "precision": [10 / 14, 1],
            "sensitivity": [10 / 16, 1],
            "specificity": [80 / 84, math.nan],
            "accuracy": [90 / 100, 1],
        }
        assert got.keys() == want.keys()
        for name, score in want.items():
            np.testing.assert_allclose(got[name], score)

    def test_two_flips_change_nothing(self):
        levels, preds = draw(3)
        flipped = overlap.confusion(levels[:, ::-1], preds[:, ::-1], 3)
        np.testing.assert_array_equal(flipped, overlap.confusion(levels, preds, 3))

    def test_many_images_at_once_equal_one_by_one(self):
        levels, preds = draw(3)
        counts = np.asarray(overlap.confusion(levels, preds, 3))
        together = overlap.macro_scores(counts)["iou"]
        np.testing.assert_allclose(together, [overlap.macro_scores(c)["iou"] for c in counts])
