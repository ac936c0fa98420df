"""Augmentation against SciPy's warp, analytic shapes and hand-set ranges."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import interpolate, ndimage

from jaxlung.data.transforms import augment

GEOMETRY = dict(
    flip_probability=0.5,
    rotation_degrees=20.0,
    shift_fraction=0.1,
    shear_degrees=10.0,
    zoom_range=(0.8, 1.25),
)
VALUES = dict(brightness=0.1, contrast=0.2, gamma=0.5, noise_std=0.05)
SOFTNESS = dict(blur_pixels=2.0, low_resolution=0.5)
EVERYTHING = GEOMETRY | dict(elastic_fraction=0.03) | VALUES | SOFTNESS


def settings_of(**changes):
    return dataclasses.replace(augment.OFF, **changes)


def random_batch(shape, seed=0):
    np_rng = np.random.default_rng(seed)
    images = np_rng.random((*shape, 1)).astype(np.float32)
    return images, np_rng.integers(0, 4, shape, np.uint8)


def ellipse(row, column, shape):
    """A tilted ellipse off the centre; True inside."""
    down, right = row - 0.4 * shape[0], column - 0.55 * shape[1]
    return ((down + 0.3 * right) / (0.25 * shape[0])) ** 2 + (right / (0.18 * shape[1])) ** 2 < 1


augment_jit = jax.jit(augment.augment, static_argnames="settings")
matrices_jit = jax.jit(augment.random_matrices, static_argnames=("shape", "settings"))


class WarpTest(parameterized.TestCase):
    @parameterized.product(shape=[(12, 32, 32), (8, 17, 40), (3, 1, 9)])
    def test_matches_scipy(self, shape, seed=0):
        images, masks = random_batch(shape, seed)
        settings = settings_of(**GEOMETRY)
        matrices = matrices_jit(jax.random.key(seed), shape, settings)
        warped_images, warped_masks = jax.jit(augment.warp)(images, masks, matrices)
        chex.assert_equal_shape([warped_images, images])
        assert warped_masks.dtype == np.uint8
        for i, matrix in enumerate(np.asarray(matrices, np.float64)):
            transform = functools.partial(
                ndimage.affine_transform,
                matrix=matrix[:, :2],
                offset=matrix[:, 2],
                mode="nearest",
                prefilter=False,
            )
            want = transform(images[i, ..., 0].astype(np.float64), order=1)
            np.testing.assert_allclose(warped_images[i, ..., 0], want, atol=1e-4)
            # Half a pixel between two neighbours may round either way in float32.
            assert np.mean(warped_masks[i] != transform(masks[i], order=0)) < 0.002

    @parameterized.product(seed=[0, 1, 2])
    def test_an_ellipse_moves_as_geometry_says(self, seed):
        shape = (64, 64)
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        masks = np.broadcast_to(ellipse(rows, columns, shape), (8, *shape)).astype(np.uint8)
        images = masks[..., None].astype(np.float32)
        settings = settings_of(**GEOMETRY)
        rng = jax.random.key(seed)
        warped_images, warped_masks = augment_jit(images, masks, rng, settings)
        rng_warp, _ = jax.random.split(rng)
        for i, matrix in enumerate(matrices_jit(rng_warp, masks.shape, settings)):
            source = np.tensordot(matrix[:, :2], [rows, columns], 1) + matrix[:, 2, None, None]
            want = ellipse(*source, shape)
            for got in (warped_masks[i] > 0, warped_images[i, ..., 0] > 0.5):
                wrong = np.asarray(got) != want
                # Pixels of the outline alone may differ.
                square = np.ones((3, 3))
                outline = ndimage.binary_dilation(want, square)
                outline &= ~ndimage.binary_erosion(want, square)
                assert not np.any(wrong & ~outline)
            assert 0 < want.sum() < want.size

    @parameterized.named_parameters(
        ("turned", dict(rotation_degrees=20.0)),
        ("slanted", dict(shear_degrees=20.0)),
        ("zoomed", dict(zoom_range=(0.5, 2.0))),
        ("shifted", dict(shift_fraction=0.2)),
    )
    def test_one_setting_changes_what_it_names_within_its_range(self, changes):
        shape = (400, 33, 65)
        matrices = matrices_jit(jax.random.key(0), shape, settings_of(**changes))
        matrices = np.asarray(matrices, np.float64)
        smallest, largest = changes.get("zoom_range", (1.0, 1.0))
        zoom_middle, zoom_largest = (smallest + largest) / 2, (largest - smallest) / 2
        linear = np.linalg.inv(matrices[:, :, :2])  # from input to output
        angle = np.degrees(np.arctan2(-linear[:, 0, 1], linear[:, 0, 0]))
        slant = np.degrees(np.arctan(linear[:, 1, 0]))
        zoom = np.sqrt(np.linalg.det(linear))
        middle = np.array([16.0, 32.0])
        moved = np.einsum("bij,bj->bi", linear, middle - matrices[:, :, 2]) - middle
        self.assert_spans(angle, 20 if "rotation_degrees" in changes else 0)
        if "rotation_degrees" not in changes:
            self.assert_spans(slant, 20 if "shear_degrees" in changes else 0)
        self.assert_spans(zoom - zoom_middle, zoom_largest)
        shift = changes.get("shift_fraction", 0)
        self.assert_spans(moved[:, 0], shift * 33)
        self.assert_spans(moved[:, 1], shift * 65)

    def assert_spans(self, values, largest):
        """Values reach out to both ends of +-largest, evenly, and not beyond."""
        assert np.abs(values).max() <= largest + 1e-4
        np.testing.assert_allclose(np.std(values), largest / np.sqrt(3), rtol=0.1, atol=1e-4)

    def test_rows_stay_straight_and_only_zoom_changes_areas(self):
        matrices = matrices_jit(jax.random.key(0), (50, 32, 32), settings_of(**GEOMETRY))
        linear = np.linalg.inv(np.asarray(matrices[:, :, :2], np.float64))
        # Slanting vertical lines leaves rows alone: they are turned and zoomed.
        along_row = linear[:, :, 1]
        zoom = np.linalg.norm(along_row, axis=1)
        assert np.all((zoom > 0.8) & (zoom < 1.25))
        np.testing.assert_allclose(np.abs(np.linalg.det(linear)), zoom**2, rtol=1e-5)
        steepness = np.abs(along_row[:, 0]) / zoom
        assert steepness.max() < np.sin(np.deg2rad(20)) + 1e-5

    def test_flips_are_exact_and_as_frequent_as_asked(self):
        images, masks = random_batch((400, 5, 8))
        got_images, got_masks = augment_jit(
            images, masks, jax.random.key(0), settings_of(flip_probability=0.3)
        )
        flipped = np.any(np.asarray(got_masks) != masks, axis=(1, 2))
        assert 0.23 < flipped.mean() < 0.37
        rows = flipped[:, None, None]
        np.testing.assert_array_equal(got_masks, np.where(rows, masks[:, :, ::-1], masks))
        want = np.where(rows[..., None], images[:, :, ::-1], images)
        np.testing.assert_array_equal(got_images, want)

    def test_coordinates_use_no_matrix_product(self):
        images, masks = random_batch((2, 8, 8))
        traced = jax.make_jaxpr(
            functools.partial(
                augment.augment, settings=settings_of(**GEOMETRY, elastic_fraction=0.1)
            )
        )
        # A TPU would run it in bfloat16, several pixels off.
        assert "dot_general" not in str(traced(images, masks, jax.random.key(0)))


class ExposureTest(parameterized.TestCase):
    def test_one_gain_and_offset_per_image_within_their_ranges(self):
        # Far enough from 0 and 1 that nothing is clipped.
        images = 0.45 + 0.1 * random_batch((300, 6, 6))[0]
        settings = settings_of(brightness=0.2, contrast=0.5)
        got, _ = augment_jit(images, np.zeros((300, 6, 6), np.uint8), jax.random.key(0), settings)
        got = np.asarray(got)
        means, got_means = images.mean(axis=(1, 2, 3)), got.mean(axis=(1, 2, 3))
        gains = got.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
        offsets = got_means - means
        want = (images - means[:, None, None, None]) * gains[:, None, None, None]
        np.testing.assert_allclose(got, want + got_means[:, None, None, None], atol=1e-5)
        for amounts, largest in ((gains - 1, 0.5), (offsets, 0.2)):
            assert np.abs(amounts).max() < largest + 1e-4
            np.testing.assert_allclose(amounts.std(), largest / np.sqrt(3), rtol=0.12)
        assert abs(np.corrcoef(gains, offsets)[0, 1]) < 0.2

    def test_masks_stay_and_images_stay_in_range(self):
        images, masks = random_batch((16, 8, 8))
        settings = settings_of(brightness=0.9, contrast=1.0)
        got_images, got_masks = augment_jit(images, masks, jax.random.key(1), settings)
        np.testing.assert_array_equal(got_masks, masks)
        assert np.min(got_images) == 0
        assert np.max(got_images) == 1


class ElasticTest(parameterized.TestCase):
    def test_matches_scipy(self):
        images, masks = random_batch((3, 40, 56))
        settings = settings_of(**GEOMETRY, elastic_fraction=0.05)
        rngs = jax.random.split(jax.random.key(0))
        matrices = matrices_jit(rngs[0], masks.shape, settings)
        bends = np.asarray(augment.random_bends(rngs[1], 3, settings), np.float64)
        got, got_masks = jax.jit(augment.warp)(images, masks, matrices, bends.astype(np.float32))
        places = [np.linspace(1, 4, size) for size in (40, 56)]  # among the six control points
        knots = np.arange(-2.0, 8.0)
        basis = [
            np.stack(
                [interpolate.BSpline.basis_element(knots[i : i + 5], False)(x) for i in range(6)]
            )
            for x in places
        ]
        basis = [np.nan_to_num(each) for each in basis]
        for i, matrix in enumerate(np.asarray(matrices, np.float64)):
            grid = np.mgrid[:40, :56].astype(np.float64)
            source = np.tensordot(matrix[:, :2], grid, 1) + matrix[:, 2, None, None]
            moves = np.einsum("aij,ih,jw->ahw", bends[i], *basis) * [[[40]], [[56]]]
            assert np.abs(moves).max() <= 0.05 * 56
            read = functools.partial(
                ndimage.map_coordinates, coordinates=source + moves, mode="nearest", prefilter=False
            )
            want = read(images[i, ..., 0].astype(np.float64), order=1)
            np.testing.assert_allclose(got[i, ..., 0], want, atol=1e-4)
            assert np.mean(got_masks[i] != read(masks[i], order=0)) < 0.002

    def test_the_largest_amount_folds_nothing(self):
        settings = settings_of(elastic_fraction=0.1)
        bends = augment.random_bends(jax.random.key(0), 200, settings)
        rows, columns = np.moveaxis(np.asarray(augment._spread(bends, 64, 64)), 1, 0)
        row_row, row_column = 1 + np.diff(rows, axis=1), np.diff(rows, axis=2)
        column_row, column_column = np.diff(columns, axis=1), 1 + np.diff(columns, axis=2)
        areas = (
            row_row[:, :, :-1] * column_column[:, :-1] - row_column[:, :-1] * column_row[..., :-1]
        )
        assert areas.min() > 0


class GammaAndNoiseTest(parameterized.TestCase):
    def test_gamma_is_one_power_per_image_within_its_range(self):
        images = 0.1 + 0.8 * random_batch((300, 6, 6))[0]
        got, masks = augment_jit(
            images, np.ones((300, 6, 6), np.uint8), jax.random.key(0), settings_of(gamma=1.0)
        )
        powers = np.log(got) / np.log(images)
        np.testing.assert_allclose(powers - powers[:, :1, :1], 0, atol=1e-4)
        logs = np.log2(powers[:, 0, 0, 0])
        assert np.abs(logs).max() <= 1 + 1e-4
        np.testing.assert_allclose(logs.std(), 1 / np.sqrt(3), rtol=0.1)
        assert np.all(np.asarray(masks) == 1)

    def test_noise_has_a_strength_per_image_within_its_range(self):
        images = np.full((200, 24, 24, 1), 0.5, np.float32)
        masks = np.zeros((200, 24, 24), np.uint8)
        got, _ = augment_jit(images, masks, jax.random.key(0), settings_of(noise_std=0.1))
        strengths = np.std(np.asarray(got) - 0.5, axis=(1, 2, 3))
        assert strengths.max() < 0.108
        np.testing.assert_allclose(strengths.mean(), 0.05, rtol=0.1)
        np.testing.assert_allclose(strengths.std(), 0.1 / np.sqrt(12), rtol=0.1)


class AugmentTest(parameterized.TestCase):
    all_on = settings_of(**EVERYTHING)

    def test_neutral_settings_do_nothing_at_all(self):
        images, masks = random_batch((2, 8, 8))
        settings = settings_of()
        assert settings.is_identity
        traced = jax.make_jaxpr(functools.partial(augment.augment, settings=settings))
        assert not traced(images, masks, jax.random.key(0)).eqns

    @parameterized.named_parameters(*((name, {name: value}) for name, value in EVERYTHING.items()))
    def test_any_setting_is_a_change(self, changes):
        assert not settings_of(**changes).is_identity
        images, masks = random_batch((4, 16, 16))
        got, _ = augment_jit(images, masks, jax.random.key(0), settings_of(**changes))
        assert not np.allclose(got, images)
        assert 0 <= np.min(got) < np.max(got) <= 1

    def test_a_key_decides_and_images_differ(self):
        image, mask = random_batch((1, 16, 16))
        images, masks = np.repeat(image, 6, axis=0), np.repeat(mask, 6, axis=0)
        first, again, other = (
            augment_jit(images, masks, jax.random.key(seed), self.all_on) for seed in (0, 0, 1)
        )
        chex.assert_trees_all_equal(first, again)
        assert not np.allclose(first[0], other[0])
        assert len(np.unique(first[0].reshape(6, -1), axis=0)) == 6

    def test_an_image_does_not_depend_on_the_rest_of_the_batch(self):
        images, masks = random_batch((8, 16, 16))
        rng = jax.random.key(0)
        whole = augment_jit(images, masks, rng, self.all_on)
        part = augment_jit(images[:3], masks[:3], rng, self.all_on)
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[:3], whole), part, atol=1e-6)

    def test_four_devices_work_alone_and_agree_with_one(self):
        if jax.device_count() < 4:
            self.skipTest("one device")
        images, masks = random_batch((8, 16, 16))
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
        batch = jax.device_put((jnp.asarray(images), jnp.asarray(masks)), sharding)
        compiled = augment_jit.lower(*batch, rng, self.all_on).compile()
        for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
            assert collective not in compiled.as_text()
        got = compiled(*batch, rng)
        want = augment_jit(images, masks, jax.random.key(0), self.all_on)
        chex.assert_trees_all_close(jax.device_get(got), jax.device_get(want), atol=1e-6)

    @parameterized.named_parameters(
        ("probability", dict(flip_probability=1.5), "flip_probability: want 0 to 1, got 1.5"),
        ("negative", dict(rotation_degrees=-3.0), "rotation_degrees: want 0 to 360, got -3"),
        ("shear", dict(shear_degrees=90.0), "shear_degrees: want 0 to 89, got 90"),
        ("not a number", dict(contrast=float("nan")), "contrast: want 0 to 1, got nan"),
        ("zero zoom", dict(zoom_range=(0.0, 1.0)), "zoom_range: .* got .0.0, 1.0"),
        ("zoom order", dict(zoom_range=(1.2, 0.9)), "the smaller first"),
        ("one zoom", dict(zoom_range=(1.2,)), "want two scales"),
    )
    def test_bad_settings_are_named(self, changes, message):
        with pytest.raises(ValueError, match=message):
            settings_of(**changes)
