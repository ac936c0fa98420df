"""ROC curve, area and threshold against scikit-learn and pair by pair."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from absl.testing import parameterized
from sklearn import metrics

from jaxlung.metrics import roc


def draw(num=60, decimals=1, seed=0):
    """Scores that say something; few decimals make ties."""
    np_rng = np.random.default_rng(seed)
    labels = np_rng.random(num) < 0.3
    labels[:2] = [True, False]
    return labels, np.round(np.clip(np_rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1), decimals)


class CurveTest(parameterized.TestCase):
    @parameterized.product(decimals=[1, 9], seed=[0, 1])
    def test_matches_sklearn(self, decimals, seed):
        labels, scores = draw(decimals=decimals, seed=seed)
        got = roc.roc_curve(labels, scores)
        want = metrics.roc_curve(labels, scores, drop_intermediate=False)
        for ours, theirs in zip((got.fpr, got.tpr, got.thresholds), want, strict=True):
            np.testing.assert_allclose(ours, theirs)

    def test_by_hand_with_a_tie_across_classes(self):
        labels = np.array([True, False, True, False, False])
        got = roc.roc_curve(labels, np.array([0.9, 0.4, 0.4, 0.1, 0.2]))
        np.testing.assert_allclose(got.thresholds, [math.inf, 0.9, 0.4, 0.2, 0.1])
        np.testing.assert_allclose(got.tpr, [0, 0.5, 1, 1, 1])
        np.testing.assert_allclose(got.fpr, [0, 0, 1 / 3, 2 / 3, 1])

    def test_the_area_under_it_is_the_auc(self):
        labels, scores = draw(seed=3)
        curve = roc.roc_curve(labels, scores)
        assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(roc.auc(labels, scores))

    def test_the_rate_of_an_absent_class_is_nan(self):
        curve = roc.roc_curve(np.ones(3, bool), np.array([0.1, 0.2, 0.3]))
        assert np.isnan(curve.fpr).all()
        np.testing.assert_allclose(curve.tpr, [0, 1 / 3, 2 / 3, 1])


class AucTest(parameterized.TestCase):
    @parameterized.product(decimals=[0, 1, 9], seed=[0, 1])
    def test_matches_sklearn_and_every_pair(self, decimals, seed):
        labels, scores = draw(decimals=decimals, seed=seed)
        got = roc.auc(labels, scores)
        assert got == pytest.approx(metrics.roc_auc_score(labels, scores))
        pairs = itertools.product(scores[labels], scores[~labels])
        assert got == pytest.approx(np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs]))

    def test_a_weight_is_that_many_copies_of_an_image(self):
        labels, scores = draw()
        weights = np.random.default_rng(1).integers(0, 4, (7, len(labels)))
        got = roc.auc(labels, scores, weights)
        want = [
            metrics.roc_auc_score(np.repeat(labels, row), np.repeat(scores, row)) for row in weights
        ]
        np.testing.assert_allclose(got, want)

    def test_fractional_weights_match_sklearn(self):
        labels, scores = draw()
        weights = np.random.default_rng(2).random((3, len(labels))).astype(np.float32)
        want = [metrics.roc_auc_score(labels, scores, sample_weight=row) for row in weights]
        np.testing.assert_allclose(roc.auc(labels, scores, weights), want, rtol=1e-6)

    def test_nan_where_a_class_is_absent(self):
        scores = np.array([0.1, 0.2, 0.3])
        assert math.isnan(roc.auc(np.ones(3, bool), scores))
        assert math.isnan(roc.auc(np.zeros(3, bool), scores))
        assert math.isnan(roc.auc(np.zeros(0, bool), np.zeros(0)))
        labels = np.array([True, False, False])
        got = roc.auc(labels, scores, np.array([[0, 2, 1], [1, 0, 0], [1, 1, 1]]))
        np.testing.assert_array_equal(got, [math.nan, math.nan, 0.0])

    def test_only_the_order_of_scores_matters(self):
        labels, scores = draw()
        assert roc.auc(labels, np.exp(5 * scores)) == roc.auc(labels, scores)
        assert roc.auc(~labels, scores) == pytest.approx(1 - roc.auc(labels, scores))

    def test_a_thousand_resamples_of_5000_images_need_no_pairs(self):
        labels, scores = draw(num=5_000, decimals=9)
        weights = np.ones((1_000, 5_000), np.int32)
        tracemalloc.start()
        got = roc.auc(labels, scores, weights)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2e6  # 5,000 x 5,000 bool would be 25 MB.
        np.testing.assert_allclose(got, metrics.roc_auc_score(labels, scores))


class BestThresholdTest(parameterized.TestCase):
    @parameterized.product(decimals=[1, 2, 9], seed=[0, 1, 2])
    def test_no_threshold_has_a_higher_youden_index(self, decimals, seed):
        labels, scores = draw(decimals=decimals, seed=seed)
        threshold = roc.best_threshold(labels, scores)
        above = scores > threshold
        got = above[labels].mean() - above[~labels].mean()
        fpr, tpr, _ = metrics.roc_curve(labels, scores)
        assert got == pytest.approx((tpr - fpr).max())
        # Midway between neighbours.
        low, high = scores[~above].max(), scores[above].min()
        assert threshold == pytest.approx((low + high) / 2)

    @parameterized.parameters(
        ([0.1, 0.3, 0.8, 0.9], [0, 0, 1, 1], 0.55),
        # The first and the last gap are equally good: 0.15 or 0.8, and 0.3 or 0.75.
        ([0.1, 0.2, 0.7, 0.9], [0, 1, 0, 1], 0.8),
        ([0.1, 0.5, 0.6, 0.9], [0, 1, 0, 1], 0.3),
        # 0.25 and 0.75 are equally near 0.5.
        ([0.0, 0.5, 0.5, 1.0], [0, 0, 1, 1], 0.25),
        # Upside down: calling nothing positive is best, or everything.
        ([0.2, 0.4], [1, 0], 0.7),
        ([0.6, 0.8], [1, 0], 0.3),
        ([0.0, 1.0], [1, 0], 1.0),
    )
    def test_by_hand(self, scores, labels, want):
        got = roc.best_threshold(np.array(labels, bool), np.array(scores))
        assert got == pytest.approx(want)

    def test_one_class_or_a_score_that_is_no_probability_is_an_error(self):
        with pytest.raises(ValueError, match="got 2 positive of 2 labels, want both kinds"):
            roc.best_threshold(np.ones(2, bool), np.array([0.1, 0.2]))
        with pytest.raises(ValueError, match=r"got scores from -0.5 to 0.2, want 0 to 1"):
            roc.best_threshold(np.array([True, False]), np.array([-0.5, 0.2]))


class BadInputTest(parameterized.TestCase):
    @parameterized.product(
        function=[roc.roc_curve, roc.auc, roc.best_threshold],
        case=[
            (np.zeros(2), np.zeros(2), "want bool labels, got float64"),
            (np.zeros(2, bool), np.zeros(3), "must agree"),
            (np.zeros(2, bool), np.array([0.1, math.nan]), "1 of 2 scores are NaN"),
        ],
    )
    def test_is_an_error(self, function, case):
        labels, scores, message = case
        with pytest.raises(ValueError, match=message):
            function(labels, scores)

    @parameterized.parameters([(3,)], [(4, 2)])
    def test_weights_of_another_shape_are_an_error(self, shape):
        labels, scores = draw(num=3)
        with pytest.raises(ValueError, match=r"want \(resamples, 3\)"):
            roc.auc(labels, scores, np.ones(shape))
