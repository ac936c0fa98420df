"""Soft IoU and Dice losses by hand, against the counted scores, and by numeric gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import special
from sklearn import metrics

from jaxlung.losses import overlap


def draw(shape=(3, 4, 5, 1), seed=0):
    np_rng = np.random.default_rng(seed)
    logits = np_rng.normal(size=shape).astype(np.float32) * 2
    return logits, (np_rng.random(shape) > 0.5).astype(np.float32)


class SoftIouTest(parameterized.TestCase):
    @parameterized.parameters((1.0, 1 - 2.25 / 3.75), (0.5, 1 - 1.75 / 3.25))
    def test_by_hand(self, smoothing, want):
        probs = jnp.array([0.75, 0.5, 0.25, 0.5]).reshape(1, 2, 2, 1)
        targets = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
        # Overlap 0.75 + 0.5; union 1 + 1 + 0.25 + 0.5.
        got = overlap.soft_iou(jax.scipy.special.logit(probs), targets, smoothing)
        np.testing.assert_allclose(got, [want], rtol=1e-6)

    def test_soft_targets_by_hand(self):
        got = overlap.soft_iou(jnp.zeros((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 0.5))
        np.testing.assert_allclose(got, [1 - 1.25 / 1.75], rtol=1e-6)

    @parameterized.parameters([(3, 8, 9, 1)], [(2, 3, 4, 5, 2)])
    def test_sure_logits_match_sklearn_per_image(self, shape):
        logits, targets = draw(shape)
        sure = 100 * np.sign(logits)
        got = jax.jit(overlap.soft_iou)(sure, targets, 1e-6)
        want = [
            1 - metrics.jaccard_score(t.ravel(), x.ravel() > 0)
            for x, t in zip(sure, targets, strict=True)
        ]
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_gradient_matches_differences(self):
        logits, targets = draw()

        def loss(x):  # In float64; the sum of images, which don't touch each other.
            p, t = special.expit(x), targets.astype(np.float64)
            pixels = (1, 2, 3)
            union = (p + t - p * t).sum(pixels) + overlap.SMOOTHING
            return np.sum(1 - ((p * t).sum(pixels) + overlap.SMOOTHING) / union)

        got = jax.grad(lambda x: jnp.sum(overlap.soft_iou(x, targets)))(logits)
        steps = 1e-5 * np.eye(logits.size).reshape(-1, *logits.shape)
        want = [(loss(logits + d) - loss(logits - d)) / 2e-5 for d in steps]
        np.testing.assert_allclose(got.ravel(), want, rtol=1e-3, atol=1e-7)

    @parameterized.product(logit=[-1e4, -30.0, 0.0, 30.0, 1e4], target=[0.0, 1.0])
    def test_empty_full_and_saturated_are_finite_in_value_and_gradient(self, logit, target):
        logits, targets = jnp.full((1, 8, 8, 1), logit), jnp.full((1, 8, 8, 1), target)
        value, grad = jax.value_and_grad(lambda x: overlap.soft_iou(x, targets)[0])(logits)
        assert 0 <= value < 1
        assert np.isfinite(grad).all()
        # More foreground is worse for an empty mask and better for a full one.
        assert (np.asarray(grad) * (1 - 2 * target) >= 0).all()

    def test_an_empty_mask_found_empty_has_no_loss_and_one_false_pixel_half(self):
        nothing = np.full((1, 4, 4, 1), -100.0, np.float32)
        one = nothing.copy()
        one[0, 2, 1] = 100.0
        targets = np.zeros((1, 4, 4, 1), np.float32)
        np.testing.assert_allclose(overlap.soft_iou(nothing, targets), [0.0], atol=1e-7)
        np.testing.assert_allclose(overlap.soft_iou(one, targets), [0.5], rtol=1e-6)

    def test_low_precision_logits_are_summed_in_float32(self):
        ones = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
        got = overlap.soft_iou(ones, ones)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, [1 - (4096 * special.expit(1) + 1) / 4097], rtol=1e-5)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match="must agree"):
            overlap.soft_iou(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2)))


class SoftDiceTest(parameterized.TestCase):
    @parameterized.parameters((1.0, 1 - 3.5 / 5), (0.5, 1 - 3 / 4.5))
    def test_by_hand(self, smoothing, want):
        probs = jnp.array([0.75, 0.5, 0.25, 0.5]).reshape(1, 1, 2, 2, 1)
        targets = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2, 1)
        # Overlap 0.75 + 0.5, twice; sums 2 and 2.
        got = overlap.soft_dice(jax.scipy.special.logit(probs), targets, smoothing)
        np.testing.assert_allclose(got, [want], rtol=1e-6)

    @parameterized.parameters([(3, 8, 9, 1)], [(4, 3, 4, 5, 1)])
    def test_sure_logits_match_sklearn_one_by_one(self, shape):
        logits, targets = draw(shape)
        sure = 100 * np.sign(logits)
        got = jax.jit(overlap.soft_dice)(sure, targets, 1e-6)
        want = [
            1 - metrics.f1_score(t.ravel(), x.ravel() > 0)
            for x, t in zip(sure, targets, strict=True)
        ]
        np.testing.assert_allclose(got, want, atol=1e-6)

    def test_gradient_matches_differences(self):
        logits, targets = draw((3, 2, 3, 4, 1))
        targets[0] = 0  # Nothing to find.

        def loss(x):  # In float64; the sum of volumes, which don't touch each other.
            p, t = special.expit(x), targets.astype(np.float64)
            axes = (1, 2, 3, 4)
            return np.sum(1 - (2 * (p * t).sum(axes) + 1) / (p.sum(axes) + t.sum(axes) + 1))

        got = jax.grad(lambda x: jnp.sum(overlap.soft_dice(x, targets)))(logits)
        steps = 1e-5 * np.eye(logits.size).reshape(-1, *logits.shape)
        want = [(loss(logits + d) - loss(logits - d)) / 2e-5 for d in steps]
        np.testing.assert_allclose(got.ravel(), want, rtol=1e-3, atol=1e-7)

    @parameterized.product(logit=[-1e4, -30.0, 0.0, 30.0, 1e4], target=[0.0, 1.0])
    def test_empty_full_and_saturated_are_finite_in_value_and_gradient(self, logit, target):
        logits, targets = jnp.full((1, 2, 4, 8, 1), logit), jnp.full((1, 2, 4, 8, 1), target)
        value, grad = jax.value_and_grad(lambda x: overlap.soft_dice(x, targets)[0])(logits)
        assert 0 <= value < 1
        assert np.isfinite(grad).all()
        assert (np.asarray(grad) * (1 - 2 * target) >= 0).all()

    def test_an_empty_mask_found_empty_has_no_loss_and_one_false_voxel_half(self):
        nothing = np.full((1, 2, 4, 4, 1), -100.0, np.float32)
        one = nothing.copy()
        one[0, 1, 2, 1] = 100.0
        targets = np.zeros_like(nothing)
        np.testing.assert_allclose(overlap.soft_dice(nothing, targets), [0.0], atol=1e-7)
        np.testing.assert_allclose(overlap.soft_dice(one, targets), [0.5], rtol=1e-6)

    def test_shapes_that_differ_are_an_error(self):
        with pytest.raises(ValueError, match=r"soft_dice: logits .* must agree"):
            overlap.soft_dice(jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((1, 2, 2, 2)))
