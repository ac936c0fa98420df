"""Overlap scores against scikit-learn."""

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
    @parameterized.parameters(2, 3)
    def test_matches_sklearn_per_image(self, num_levels):
        levels, preds = draw(num_levels)
        got = jax.jit(overlap.confusion, static_argnums=2)(levels, preds, num_levels)
        for image in range(3):
            want = metrics.confusion_matrix(
                levels[image].ravel(), preds[image].ravel(), labels=range(num_levels)
            )
            np.testing.assert_array_equal(got[image], want)
            one = overlap.confusion_of_one(levels[image], preds[image], num_levels)
            np.testing.assert_array_equal(one, want)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match="must agree"):
            overlap.confusion(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 3)), 2)
        with pytest.raises(ValueError, match="must agree"):
            overlap.confusion_of_one(np.zeros((2, 2)), np.zeros((2, 3)), 2)


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

    def test_nothing_to_find_and_nothing_found_is_right(self):
        counts = np.array([[10, 0], [0, 0]])
        for score in overlap.level_scores(counts).values():
            np.testing.assert_array_equal(score, [1, 1])

    @parameterized.parameters([[[6, 4], [0, 0]]], [[[6, 0], [4, 0]]])
    def test_only_found_or_only_missed_scores_0(self, counts):
        scores = overlap.level_scores(np.array(counts))
        for name in SKLEARN:
            assert scores[name][1] == 0

    def test_two_flips_change_nothing(self):
        levels, preds = draw(3)
        flipped = overlap.confusion(levels[:, ::-1], preds[:, ::-1], 3)
        np.testing.assert_array_equal(flipped, overlap.confusion(levels, preds, 3))

    def test_many_images_at_once_equal_one_by_one(self):
        levels, preds = draw(3)
        counts = np.asarray(overlap.confusion(levels, preds, 3))
        together = overlap.macro_scores(counts)["iou"]
        np.testing.assert_allclose(together, [overlap.macro_scores(c)["iou"] for c in counts])
