"""Losses of one mask, by name."""

import jax
import numpy as np
from absl.testing import parameterized
from scipy import special
from sklearn import metrics

from jaxlung import losses
from jaxlung.losses import overlap


def draw(seed=0):
    np_rng = np.random.default_rng(seed)
    logits = np_rng.normal(0, 3, (4, 6, 5, 1)).astype(np.float32)
    targets = (np_rng.random(logits.shape) < 0.4).astype(np.float32)
    targets[0] = 0  # Nothing to find.
    return logits, targets


def bce(logits, targets):
    probs = special.expit(logits.astype(np.float64))
    return [
        metrics.log_loss(t.ravel(), p.ravel(), labels=[0, 1])
        for t, p in zip(targets, probs, strict=True)
    ]


def iou_loss(logits, targets):
    probs = special.expit(logits.astype(np.float64))
    shared = (probs * targets).sum(axis=(1, 2, 3))
    return 1 - (shared + 1) / (probs.sum(axis=(1, 2, 3)) + targets.sum(axis=(1, 2, 3)) - shared + 1)


def dice_loss(logits, targets):
    probs = special.expit(logits.astype(np.float64))
    shared = (probs * targets).sum(axis=(1, 2, 3))
    return 1 - (2 * shared + 1) / (probs.sum(axis=(1, 2, 3)) + targets.sum(axis=(1, 2, 3)) + 1)


def focal(logits, targets, alpha):
    probs = special.expit(logits.astype(np.float64))
    right = np.where(targets > 0, probs, 1 - probs)
    weights = np.where(targets > 0, alpha, 1 - alpha)
    return (-weights * (1 - right) ** 2 * np.log(right)).mean(axis=(1, 2, 3))


def tversky(logits, targets, alpha):
    probs = special.expit(logits.astype(np.float64))
    hit, false, missed = (
        x.sum(axis=(1, 2, 3))
        for x in (probs * targets, probs * (1 - targets), (1 - probs) * targets)
    )
    return 1 - (hit + 1) / (hit + alpha * false + (1 - alpha) * missed + 1)


class LossesTest(parameterized.TestCase):
    @parameterized.product(name=list(losses.LOSSES), alpha=[0.0, 0.3, 1.0])
    def test_every_name_is_its_share_of_the_losses(self, name, alpha):
        logits, targets = draw()
        shares = {  # of cross-entropy, IoU, Dice, focal, Tversky
            "bce": (1, 0, 0, 0, 0),
            "iou": (0, 1, 0, 0, 0),
            "dice": (0, 0, 1, 0, 0),
            "bce_iou": (alpha, 1 - alpha, 0, 0, 0),
            "bce_dice": (alpha, 0, 1, 0, 0),
            "focal": (0, 0, 0, 1, 0),
            "tversky": (0, 0, 0, 0, 1),
        }[name]
        terms = [loss(logits, targets) for loss in (bce, iou_loss, dice_loss)]
        terms += [loss(logits, targets, alpha) for loss in (focal, tversky)]
        want = np.tensordot(shares, terms, 1)
        got = jax.jit(losses.LOSSES[name](alpha))(logits, targets)
        np.testing.assert_allclose(got, want, rtol=1e-5)

    @parameterized.parameters(*losses.LOSSES)
    def test_a_perfect_answer_costs_nothing_and_gradients_stay_finite(self, name):
        loss = losses.LOSSES[name](0.5)
        _, targets = draw()
        np.testing.assert_allclose(loss(200 * targets - 100, targets), 0, atol=1e-6)
        for logits in (0 * targets, 100 - 200 * targets):
            grads = jax.grad(lambda x: loss(x, targets).sum())(logits)
            assert np.isfinite(grads).all()

    def test_tversky_with_equal_weights_is_dice_of_half_the_smoothing(self):
        logits, targets = draw()
        got = overlap.tversky(logits, targets, alpha=0.5, smoothing=0.5)
        np.testing.assert_allclose(got, overlap.soft_dice(logits, targets, 1.0), rtol=1e-6)

    def test_lin_and_huang_take_half_the_cross_entropy_and_all_of_dice_on_volumes(self):
        logits, targets = draw()
        volumes = [np.stack([x, x], axis=1) for x in (logits, targets)]
        got = losses.LOSSES["bce_dice"](0.5)(*volumes)
        doubled = [np.concatenate([x, x], axis=1) for x in (logits, targets)]
        want = 0.5 * np.array(bce(logits, targets)) + dice_loss(*doubled)
        np.testing.assert_allclose(got, want, rtol=1e-5)
