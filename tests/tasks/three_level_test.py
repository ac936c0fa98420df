"""Outside, lung and infection in one map."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxlung.tasks import three_level

NONE, LUNG, INFECTION, BOTH = 0, 1, 2, 3


class ThreeLevelTest(parameterized.TestCase):
    def test_infection_wins_inside_and_outside_the_lung(self):
        masks = jnp.array([[[NONE, LUNG], [INFECTION, BOTH]]], jnp.uint8)
        np.testing.assert_array_equal(three_level.true_levels(masks), [[[0, 1], [2, 2]]])

    def test_targets_are_the_papers_greys(self):
        masks = jnp.array([[[NONE, LUNG], [INFECTION, BOTH]]], jnp.uint8)
        got = 255 * three_level.targets(masks)[0, ..., 0]
        np.testing.assert_allclose(got, [[0, 125], [255, 255]], rtol=1e-6)

    def test_every_grey_goes_to_the_nearest_of_three(self):
        greys = np.arange(256)
        probs = jnp.asarray(greys / 255, jnp.float32).reshape(1, 16, 16, 1)
        got = three_level.nearest_level(probs).ravel()
        distance = np.abs(greys[:, None] - np.array([[0, 125, 255]]))
        # No grey is half-way: 62.5 and 190 fall between two, but for 190 itself.
        clear = np.sort(distance, axis=1)[:, 0] != np.sort(distance, axis=1)[:, 1]
        assert (~clear).sum() == 1
        np.testing.assert_array_equal(got[clear], distance.argmin(1)[clear])

    def test_the_borders_are_half_way_between_greys(self):
        greys = np.array([62.4, 62.6, 189.9, 190.1], np.float32).reshape(1, 2, 2, 1)
        got = three_level.nearest_level(jnp.asarray(greys / 255)).ravel()
        np.testing.assert_array_equal(got, [0, 1, 1, 2])

    def test_postprocessing_undoes_the_targets(self):
        masks = jnp.asarray(np.random.default_rng(0).integers(0, 4, (2, 5, 5)), jnp.uint8)
        got = three_level.nearest_level(three_level.targets(masks))
        np.testing.assert_array_equal(got, three_level.true_levels(masks))

    def test_numpy_and_jit_agree(self):
        masks = np.random.default_rng(0).integers(0, 4, (2, 5, 5)).astype(np.uint8)
        probs = np.random.default_rng(1).random((2, 5, 5, 1), np.float32)
        for function, argument in (
            (three_level.true_levels, masks),
            (three_level.nearest_level, probs),
        ):
            on_host = function(argument)
            assert isinstance(on_host, np.ndarray)
            np.testing.assert_array_equal(on_host, jax.jit(function)(argument))

    def test_pooled_scores_are_of_pixels_and_not_of_images(self):
        """Worked by hand: two images, infection in one of them only."""
        first = np.array([[8, 0, 0], [0, 4, 0], [0, 1, 3]])
        second = np.array([[10, 2, 0], [0, 4, 0], [0, 0, 0]])
        scores = three_level.make_task().pooled_scores(first + second)
        np.testing.assert_allclose(scores["iou_outside"], 18 / 20)
        np.testing.assert_allclose(scores["iou_lung"], 8 / 11)
        np.testing.assert_allclose(scores["iou_infection"], 3 / 4)
        np.testing.assert_allclose(scores["iou_macro"], (18 / 20 + 8 / 11 + 3 / 4) / 3)
        np.testing.assert_allclose(scores["precision_micro"], 29 / 32)
        np.testing.assert_allclose(scores["iou_micro"], 29 / 35)
