"""One binary mask."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung import losses
from jaxlung.tasks import mask


def make_task(target="lung", threshold=0.5, loss="bce", alpha=0.5):
    return mask.make_task(target=target, threshold=threshold, loss=loss, alpha=alpha)


class MaskTest(parameterized.TestCase):
    @parameterized.parameters(("lung", [0, 1, 0, 1]), ("infection", [0, 0, 1, 1]))
    def test_targets_are_one_bit_of_the_masks(self, target, want):
        task = make_task(target)
        masks = jnp.array([[[0, 1], [2, 3]]], jnp.uint8)
        labels = jnp.zeros(1, jnp.uint8)
        np.testing.assert_array_equal(task.targets(masks, labels).ravel(), want)
        np.testing.assert_array_equal(task.true_levels(masks, labels).ravel(), want)
        assert task.needs == {"lung": 1, "infection": 2}[target]

    def test_foreground_is_above_the_threshold(self):
        task = make_task(threshold=0.2)
        probs = jnp.array([0.1, 0.2, 0.21, 0.9]).reshape(1, 2, 2, 1)
        np.testing.assert_array_equal(task.postprocess(probs).ravel(), [0, 0, 1, 1])

    @parameterized.parameters(*losses.LOSSES)
    def test_the_loss_is_the_one_named_and_falls_to_its_floor(self, name):
        task = make_task(loss=name, alpha=0.3)
        np_rng = np.random.default_rng(0)
        logits = np_rng.normal(size=(2, 4, 4, 1)).astype(np.float32)
        targets = (np_rng.random(logits.shape) < 0.5).astype(np.float32)
        np.testing.assert_array_equal(
            task.loss(logits, targets), losses.LOSSES[name](0.3)(logits, targets)
        )
        right = task.loss(200 * targets - 100, targets)
        np.testing.assert_allclose(right, task.floor(targets), atol=1e-6)

    def test_pooled_scores_are_of_all_pixels_together(self):
        """Worked by hand: a large image that is good and a small empty one that is right."""
        scores = make_task().pooled_scores(np.array([[85, 4], [6, 10]]))
        want = {
            "dice": 20 / 30,
            "iou": 10 / 20,
            "mean_iou": (10 / 20 + 85 / 95) / 2,
            "precision": 10 / 14,
            "sensitivity": 10 / 16,
            "specificity": 85 / 89,
            "accuracy": 95 / 105,
        }
        assert scores == pytest.approx({f"{name}_pooled": x for name, x in want.items()})

    @parameterized.parameters(
        (dict(target="heart"), r"task.target: got 'heart', want one of lung, infection"),
        (dict(threshold=1.5), r"task.threshold: got 1.5"),
        (dict(threshold=0.0), r"task.threshold: got 0.0"),
        (dict(loss="ssim"), f"task.loss: got 'ssim', want one of {', '.join(losses.LOSSES)}"),
        (dict(alpha=2.0), r"task.alpha: got 2.0, want a number from 0"),
        (dict(alpha=-0.1), r"task.alpha: got -0.1, want a number from 0"),
        (dict(alpha=float("nan")), r"task.alpha: got nan, want a number from 0"),
    )
    def test_settings_that_can_not_be_are_errors(self, changes, message):
        with pytest.raises(ValueError, match=message):
            make_task(**changes)
