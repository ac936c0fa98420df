"""Blur and low resolution against SciPy and Pillow."""

import jax
import numpy as np
from absl.testing import parameterized
from PIL import Image
from scipy import ndimage

from jaxlung.data.transforms import sharpness

soften_jit = jax.jit(sharpness.soften)


def draw(*shape):
    return np.random.default_rng(0).random((*shape, 1)).astype(np.float32)


class SoftenTest(parameterized.TestCase):
    def test_blur_matches_scipy_and_keeps_a_constant_image(self):
        images = draw(3, 40, 56)
        sigmas = np.array([0.7, 2.0, 5.0], np.float32)
        got = soften_jit(images, sigmas, np.ones(3, np.float32))
        for image, sigma, blurred in zip(images[..., 0], sigmas, got[..., 0], strict=True):
            # SciPy pads: the mean over the pixels that are there is a quotient of two blurs.
            parts = [
                ndimage.gaussian_filter(x, sigma, mode="constant", truncate=20)
                for x in (image.astype(np.float64), np.ones(image.shape))
            ]
            np.testing.assert_allclose(blurred, parts[0] / parts[1], atol=1e-5)
        flat = np.full((2, 9, 9, 1), 0.3, np.float32)
        got = soften_jit(flat, np.array([0.0, 4.0], np.float32), np.array([1.0, 0.4], np.float32))
        np.testing.assert_allclose(got, flat, rtol=1e-6)

    def test_nothing_lost_is_nothing_changed(self):
        images = draw(2, 17, 8)
        got = soften_jit(images, np.zeros(2, np.float32), np.ones(2, np.float32))
        np.testing.assert_allclose(got, images, atol=1e-7)

    @parameterized.parameters(2, 3, 4)
    def test_a_whole_factor_matches_pillow(self, factor):
        images = draw(1, 24, 48)
        got = soften_jit(images, np.zeros(1, np.float32), np.array([1 / factor], np.float32))
        small = Image.fromarray(images[0, ..., 0]).resize(
            (48 // factor, 24 // factor), Image.Resampling.NEAREST
        )
        want = np.asarray(small.resize((48, 24), Image.Resampling.BILINEAR))
        if factor % 2:  # Else the middle of a coarse pixel lies between two, and either is nearest.
            np.testing.assert_allclose(got[0, ..., 0], want, atol=1e-5)
        else:
            assert set(np.round(np.unique(got), 6)) - set(np.round(np.unique(images), 6))

    def test_an_image_does_not_depend_on_the_others(self):
        images = draw(4, 16, 16)
        sigmas, scales = np.array([0, 1, 2, 3.0]), np.array([1, 0.8, 0.6, 0.4])
        whole = soften_jit(images, sigmas.astype(np.float32), scales.astype(np.float32))
        part = soften_jit(images[2:], sigmas[2:].astype(np.float32), scales[2:].astype(np.float32))
        np.testing.assert_allclose(whole[2:], part, atol=1e-6)
