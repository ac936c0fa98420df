"""Tests of scaling inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from sklearn import preprocessing

from jaxlung.data.transforms import preprocess


class MinMaxTest(parameterized.TestCase):
    def test_matches_sklearn_for_every_image_by_itself(self):
        images = np.random.default_rng(0).integers(20, 200, (3, 5, 7)).astype(np.uint8)
        got = jax.jit(preprocess.min_max_scale)(images)
        want = [preprocessing.minmax_scale(x.reshape(-1, 1)).reshape(5, 7, 1) for x in images]
        np.testing.assert_allclose(got, np.stack(want), rtol=1e-6)

    def test_a_constant_image_is_zeros(self):
        got = preprocess.min_max_scale(jnp.full((1, 4, 4), 77, jnp.uint8))
        np.testing.assert_array_equal(got, np.zeros((1, 4, 4, 1)))
