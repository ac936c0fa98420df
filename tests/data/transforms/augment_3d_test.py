"""Augmentation of patches against SciPy's warp, analytic shapes and exact flips."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import ndimage

from jaxlung.data.transforms import augment, augment_3d

NEUTRAL = dict(
    flip_probability=(0.0, 0.0, 0.0),
    rotation_degrees=0.0,
    zoom_range=(1.0, 1.0),
    shift_fraction=0.0,
    brightness=0.0,
    contrast=0.0,
    noise_std=0.0,
)
IN_PLANE = dict(rotation_degrees=20.0, zoom_range=(0.8, 1.25), shift_fraction=0.1)
VALUES = dict(brightness=0.1, contrast=0.2, noise_std=0.05)


def settings_of(**changes):
    return augment_3d.Augment3D(**NEUTRAL | changes)


ALL_ON = settings_of(flip_probability=(0.5, 0.5, 0.5), **IN_PLANE, **VALUES)


def random_batch(shape, seed=0):
    np_rng = np.random.default_rng(seed)
    images = np_rng.random((*shape, 1)).astype(np.float32)
    return images, np_rng.integers(0, 4, shape, np.uint8)


def cone(slices, rows, columns, shape):
    """An ellipse off the centre that grows from slice to slice; True inside."""
    down, right = rows - 0.4 * shape[1], columns - 0.55 * shape[2]
    radius = 0.1 + 0.2 * slices / shape[0]
    return (down / shape[1]) ** 2 + ((right + 0.3 * down) / shape[2]) ** 2 < radius**2


augment_jit = jax.jit(augment_3d.augment, static_argnames="settings")


class WarpTest(parameterized.TestCase):
    @parameterized.parameters([(4, 3, 24, 32)], [(2, 1, 9, 9)])
    def test_every_slice_matches_scipy(self, shape):
        images, masks = random_batch(shape)
        plane = settings_of(**IN_PLANE).in_plane
        size = (shape[0], *shape[2:])
        matrices = augment.random_matrices(jax.random.key(0), size, plane)
        warped_images, warped_masks = jax.jit(augment_3d.warp)(images, masks, matrices)
        chex.assert_equal_shape([warped_images, images])
        assert warped_masks.dtype == np.uint8
        for i, d in itertools.product(range(shape[0]), range(shape[1])):
            matrix = np.asarray(matrices[i], np.float64)
            transform = functools.partial(
                ndimage.affine_transform,
                matrix=matrix[:, :2],
                offset=matrix[:, 2],
                mode="nearest",
                prefilter=False,
            )
            want = transform(images[i, d, ..., 0].astype(np.float64), order=1)
            np.testing.assert_allclose(warped_images[i, d, ..., 0], want, atol=1e-4)
            # Half a pixel between two neighbours may round either way in float32.
            assert np.mean(warped_masks[i, d] != transform(masks[i, d], order=0)) < 0.005

    def test_a_warped_mask_is_the_mask_of_the_warped_shape(self):
        shape = (6, 48, 64)
        grid = np.mgrid[tuple(map(slice, shape))].astype(np.float64)
        masks = np.broadcast_to(cone(*grid, shape), (8, *shape)).astype(np.uint8)
        plane = settings_of(**IN_PLANE).in_plane
        matrices = augment.random_matrices(jax.random.key(1), (8, *shape[1:]), plane)
        images = masks[..., None].astype(np.float32)
        warped_images, warped_masks = jax.jit(augment_3d.warp)(images, masks, matrices)
        for i, matrix in enumerate(np.asarray(matrices, np.float64)):
            source = np.tensordot(matrix[:, :2], grid[1:], 1) + matrix[:, 2].reshape(2, 1, 1, 1)
            want = cone(grid[0], *source, shape)
            square = np.ones((1, 3, 3))
            outline = ndimage.binary_dilation(want, square) & ~ndimage.binary_erosion(want, square)
            for got in (warped_masks[i] > 0, warped_images[i, ..., 0] > 0.5):
                # Pixels of the outline alone may differ.
                assert not np.any((np.asarray(got) != want) & ~outline)
            assert 0.02 < want.mean() < 0.5


class FlipTest(parameterized.TestCase):
    @parameterized.parameters(0, 1, 2)
    def test_along_one_axis_is_exact_and_as_frequent_as_asked(self, axis):
        images, masks = random_batch((300, 3, 4, 5))
        probability = tuple(0.3 if a == axis else 0.0 for a in range(3))
        settings = settings_of(flip_probability=probability)
        got_images, got_masks = augment_jit(images, masks, jax.random.key(0), settings)
        flipped = np.any(np.asarray(got_masks) != masks, axis=(1, 2, 3))
        assert 0.22 < flipped.mean() < 0.38
        chosen = flipped[:, None, None, None]
        want = np.where(chosen, np.flip(masks, axis + 1), masks)
        np.testing.assert_array_equal(got_masks, want)
        want = np.where(chosen[..., None], np.flip(images, axis + 1), images)
        np.testing.assert_array_equal(got_images, want)

    def test_axes_are_drawn_apart(self):
        images, masks = random_batch((1, 3, 4, 5))
        images, masks = np.repeat(images, 400, axis=0), np.repeat(masks, 400, axis=0)
        settings = settings_of(flip_probability=(0.5, 0.5, 0.5))
        _, got = augment_jit(images, masks, jax.random.key(0), settings)
        subsets = [c for n in range(4) for c in itertools.combinations(range(3), n)]
        counts = [
            np.all(np.asarray(got) == np.flip(masks[0], c), axis=(1, 2, 3)).sum() for c in subsets
        ]
        assert sum(counts) == 400
        # 50 each, with a standard deviation of 6.6.
        assert 22 < min(counts) <= max(counts) < 78


class AugmentTest(parameterized.TestCase):
    def test_neutral_settings_do_nothing_at_all(self):
        images, masks = random_batch((2, 3, 8, 8))
        traced = jax.make_jaxpr(functools.partial(augment_3d.augment, settings=settings_of()))
        assert not traced(images, masks, jax.random.key(0)).eqns

    @parameterized.named_parameters(
        *((name, {name: value}) for name, value in (IN_PLANE | VALUES).items()),
        ("flip", dict(flip_probability=(0.0, 0.0, 0.1))),
    )
    def test_any_setting_is_a_change(self, changes):
        assert not settings_of(**changes).is_identity

    def test_image_and_mask_move_together(self):
        _, masks = random_batch((16, 4, 16, 16))
        masks = ndimage.median_filter(masks & 1, (1, 3, 3, 3))
        settings = settings_of(flip_probability=(0.5, 0.5, 0.5), **IN_PLANE)
        images = masks[..., None].astype(np.float32)
        got_images, got_masks = augment_jit(images, masks, jax.random.key(3), settings)
        # A half is between two neighbours: either may be the nearest.
        sure = np.abs(np.asarray(got_images[..., 0]) - 0.5) > 0.49
        assert sure.mean() > 0.5
        assert np.any(np.asarray(got_masks) != masks)
        np.testing.assert_array_equal(got_images[sure, 0] > 0.5, got_masks[sure] > 0)

    def test_values_change_alike_in_all_slices_and_masks_stay(self):
        images, masks = random_batch((200, 3, 6, 6))
        images = 0.45 + 0.1 * images  # Far enough from 0 and 1 that nothing is clipped.
        settings = settings_of(brightness=0.2, contrast=0.5)
        got, got_masks = augment_jit(images, masks, jax.random.key(0), settings)
        np.testing.assert_array_equal(got_masks, masks)
        x, y = images.reshape(200, -1), np.asarray(got).reshape(200, -1)
        gains, offsets = y.std(axis=1) / x.std(axis=1), y.mean(axis=1) - x.mean(axis=1)
        middle = x.mean(axis=1, keepdims=True)
        want = (x - middle) * gains[:, None] + middle + offsets[:, None]
        np.testing.assert_allclose(y, want, atol=1e-5)
        for amounts, largest in ((gains - 1, 0.5), (offsets, 0.2)):
            assert np.abs(amounts).max() < largest + 1e-4
            np.testing.assert_allclose(amounts.std(), largest / np.sqrt(3), rtol=0.15)

    def test_noise_is_gaussian_in_every_voxel_and_clipped(self):
        images, masks = np.full((4, 8, 32, 32, 1), 0.5, np.float32), np.zeros((4, 8, 32, 32), int)
        settings = settings_of(noise_std=0.1)
        got, _ = augment_jit(images, masks.astype(np.uint8), jax.random.key(0), settings)
        noise = (np.asarray(got) - 0.5) / 0.1
        assert abs(noise.mean()) < 0.03
        np.testing.assert_allclose(noise.std(), 1, rtol=0.02)
        np.testing.assert_allclose(np.mean(np.abs(noise) < 1), 0.6827, atol=0.01)
        across = np.corrcoef(noise.reshape(32, -1))
        assert np.abs(across - np.eye(32)).max() < 0.15
        settings = settings_of(noise_std=0.9)
        got, _ = augment_jit(images, masks.astype(np.uint8), jax.random.key(0), settings)
        assert (np.min(got), np.max(got)) == (0, 1)

    def test_a_key_decides_and_patches_differ(self):
        image, mask = random_batch((1, 3, 16, 16))
        images, masks = np.repeat(image, 6, axis=0), np.repeat(mask, 6, axis=0)
        first, again, other = (
            augment_jit(images, masks, jax.random.key(seed), ALL_ON) for seed in (0, 0, 1)
        )
        chex.assert_trees_all_equal(first, again)
        assert not np.allclose(first[0], other[0])
        assert len(np.unique(first[0].reshape(6, -1), axis=0)) == 6

    def test_a_patch_does_not_depend_on_the_rest_of_the_batch(self):
        images, masks = random_batch((6, 3, 16, 16))
        rng = jax.random.key(0)
        whole = augment_jit(images, masks, rng, ALL_ON)
        part = augment_jit(images[:2], masks[:2], rng, ALL_ON)
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[:2], whole), part, atol=1e-6)

    def test_four_devices_work_alone_and_agree_with_one(self):
        if jax.device_count() < 4:
            self.skipTest("one device")
        images, masks = random_batch((8, 3, 16, 16))
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
        batch = jax.device_put((jnp.asarray(images), jnp.asarray(masks)), sharding)
        compiled = augment_jit.lower(*batch, rng, ALL_ON).compile()
        for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
            assert collective not in compiled.as_text()
        got = compiled(*batch, rng)
        want = augment_jit(images, masks, jax.random.key(0), ALL_ON)
        chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), atol=1e-6)

    @parameterized.named_parameters(
        ("flips", dict(flip_probability=(0.5, 0.5)), "flip_probability: want one .* got .0.5, 0.5"),
        ("flip", dict(flip_probability=(0.5, 1.5, 0.0)), "for each of D, H and W"),
        ("noise", dict(noise_std=-0.1), "noise_std: want 0 to 1, got -0.1"),
        ("rotation", dict(rotation_degrees=-3.0), "rotation_degrees: want 0 to 360, got -3"),
        ("zoom", dict(zoom_range=(1.2, 0.9)), "the smaller first"),
        ("not a number", dict(contrast=float("nan")), "contrast: want 0 to 1, got nan"),
    )
    def test_bad_settings_are_named(self, changes, message):
        with pytest.raises(ValueError, match=message):
            settings_of(**changes)
