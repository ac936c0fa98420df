"""One binary mask."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.tasks import mask


class MaskTest(parameterized.TestCase):
    @parameterized.parameters(("lung", [0, 1, 0, 1]), ("infection", [0, 0, 1, 1]))
    def test_targets_are_one_bit_of_the_masks(self, target, want):
        task = mask.make_task(target=target, threshold=0.5)
        masks = jnp.array([[[0, 1], [2, 3]]], jnp.uint8)
        np.testing.assert_array_equal(task.targets(masks).ravel(), want)
        np.testing.assert_array_equal(task.true_levels(masks).ravel(), want)

    def test_foreground_is_above_the_threshold(self):
        task = mask.make_task(target="lung", threshold=0.2)
        probs = jnp.array([0.1, 0.2, 0.21, 0.9]).reshape(1, 2, 2, 1)
        np.testing.assert_array_equal(task.postprocess(probs).ravel(), [0, 0, 1, 1])

    def test_means_are_over_images_and_pools_over_pixels(self):
        """Worked by hand: a large image that is good, a small empty one that is right."""
        confusions = np.array([[[80, 4], [6, 10]], [[5, 0], [0, 0]]])
        scores = mask.make_task(target="lung", threshold=0.5).split_scores(confusions)
        np.testing.assert_allclose(scores["dice"], (20 / 30 + 1) / 2)
        np.testing.assert_allclose(scores["iou"], (10 / 20 + 1) / 2)
        np.testing.assert_allclose(scores["dice_pooled"], 20 / 30)
        np.testing.assert_allclose(scores["precision_pooled"], 10 / 14)
        np.testing.assert_allclose(scores["recall_pooled"], 10 / 16)
        np.testing.assert_allclose(scores["accuracy_pooled"], 95 / 105)

    def test_settings_that_can_not_be_are_errors(self):
        with pytest.raises(ValueError, match=r"'heart', want one of lung, infection"):
            mask.make_task(target="heart", threshold=0.5)
        with pytest.raises(ValueError, match=r"threshold: got 1.5"):
            mask.make_task(target="lung", threshold=1.5)
