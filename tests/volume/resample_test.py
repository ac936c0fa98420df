"""Ramps by formula, spheres by their volume in mL and their centroid in mm."""

import numpy as np
import pytest
from absl.testing import parameterized
from scipy import ndimage

from jaxlung.volume import resample

RAMP_HU_PER_MM = np.array([3.0, -2.0, 5.0])


def centres_mm(shape, spacing_mm):
    """[3, D, H, W]: places of voxel centres in a box that starts at 0."""
    return (np.indices(shape) + 0.5) * np.reshape(spacing_mm, (3, 1, 1, 1))


def ramp(shape, spacing_mm):
    return np.tensordot(RAMP_HU_PER_MM, centres_mm(shape, spacing_mm), 1)


def spacing_of(result, volume, spacing_mm):
    return np.array(spacing_mm) * volume.shape / result.shape


def sphere(shape, spacing_mm, centre_mm, radius_mm):
    away_mm = centres_mm(shape, spacing_mm) - np.reshape(centre_mm, (3, 1, 1, 1))
    return np.linalg.norm(away_mm, axis=0) <= radius_mm


def to_spacing(volume, spacing_mm, wanted_mm, *, labels):
    shape = resample.shape_at(volume.shape, spacing_mm, wanted_mm)
    return resample.to_shape(volume, shape, labels=labels)


class ToSpacingTest(parameterized.TestCase):
    @parameterized.parameters(
        ((2.0, 1.0, 1.0),), ((1.0, 1.3, 0.7),), ((0.5, 2.9, 1.0),), ((0, 1.7, 0),)
    )
    def test_a_ramp_stays_the_same_ramp_inside(self, wanted_mm):
        spacing_mm = (1.5, 0.8, 1.1)
        volume = ramp((13, 24, 17), spacing_mm).astype(np.float32)
        got = to_spacing(volume, spacing_mm, wanted_mm, labels=False)
        new_mm = spacing_of(got, volume, spacing_mm)
        want = ramp(got.shape, new_mm)
        # Beyond the outermost old centres the edge goes on, so look between them.
        places = centres_mm(got.shape, new_mm).transpose(1, 2, 3, 0)
        low, high = np.array(spacing_mm) / 2, (np.array(volume.shape) - 0.5) * spacing_mm
        inside = ((places >= low) & (places <= high)).all(-1)
        assert inside.mean() > 0.5
        np.testing.assert_allclose(got[inside], want[inside], atol=1e-3)

    def test_shape_is_the_nearest_whole_number_of_voxels(self):
        volume = np.zeros((10, 20, 3), np.int16)
        got = to_spacing(volume, (5.0, 0.7, 1.0), (2.0, 1.5, 8.0), labels=False)
        assert got.shape == (25, 9, 1)  # 25, 9.33 and 0.375, at least 1
        assert got.dtype == np.int16

    def test_the_edge_goes_on(self):
        volume = np.array([-5.0, 7.0], np.float32).reshape(1, 1, 2)
        got = resample.to_shape(volume, (3, 1, 4), labels=False)
        # Centres at -0.25, 0.25, 0.75 and 1.25 voxels.
        np.testing.assert_allclose(got, np.tile([-5.0, -2.0, 4.0, 7.0], (3, 1, 1)))

    def test_integers_are_rounded(self):
        volume = np.array([-10, -3], np.int16).reshape(2, 1, 1)
        got = resample.to_shape(volume, (4, 1, 1), labels=False)
        assert got.ravel().tolist() == [-10, -8, -5, -3]  # -8.25 and -4.75

    @parameterized.parameters(((2.0, 1.0, 1.0),), ((0.7, 0.7, 0.7),), ((0, 1.5, 1.5),))
    def test_a_sphere_keeps_its_millilitres_and_its_place(self, wanted_mm):
        shape, spacing_mm, centre_mm, radius_mm = (24, 60, 50), (2.5, 0.9, 1.1), (27, 25, 30), 18.0
        mask = sphere(shape, spacing_mm, centre_mm, radius_mm).astype(np.uint8) * 3
        got = to_spacing(mask, spacing_mm, wanted_mm, labels=True)
        assert set(np.unique(got)) == {0, 3}
        new_mm = spacing_of(got, mask, spacing_mm)
        millilitres = np.count_nonzero(got) * np.prod(new_mm) / 1000
        np.testing.assert_allclose(millilitres, 4 / 3 * np.pi * radius_mm**3 / 1000, rtol=0.03)
        centroid = centres_mm(got.shape, new_mm)[:, got > 0].mean(axis=1)
        # Centres halfway between two old ones all go the same way, a fraction of an old voxel.
        assert (np.abs(centroid - centre_mm) < 0.15 * np.array(spacing_mm)).all()

    @parameterized.product(
        old=[(7, 13, 11), (1, 20, 9)], new=[(9, 6, 23), (4, 20, 1)], dtype=["int16", "float32"]
    )
    def test_amounts_are_those_of_scipy(self, old, new, dtype):
        volume = np.random.default_rng(0).uniform(-1000, 400, old).astype(dtype)
        step = np.divide(old, new)
        want = ndimage.affine_transform(
            volume.astype(np.float64), step, step / 2 - 0.5, new, order=1, mode="nearest"
        )
        got = resample.to_shape(volume, new, labels=False)
        assert got.dtype == dtype
        # Whole numbers are the nearest ones.
        np.testing.assert_allclose(got, want, atol=0.5 + 1e-3 if dtype == "int16" else 1e-3)

    def test_of_two_labels_as_near_it_is_the_later_one(self):
        for size in range(2, 200, 2):
            volume = np.arange(size, dtype=np.int16).reshape(1, size, 1)
            got = resample.to_shape(volume, (1, size // 2, 1), labels=True)
            assert got.ravel().tolist() == list(range(1, size, 2))

    def test_labels_come_from_the_nearest_voxel(self):
        np_rng = np.random.default_rng(0)
        volume = np_rng.integers(0, 4, (5, 6, 7), np.uint8)
        got = resample.to_shape(volume, (8, 3, 11), labels=True)
        old = [np.arange(n) + 0.5 for n in volume.shape]
        new = [(np.arange(m) + 0.5) * n / m for m, n in zip(got.shape, volume.shape, strict=True)]
        for index in np.ndindex(got.shape):
            away = [np.abs(o - new[a][index[a]]) for a, o in enumerate(old)]
            # A tie may go either way.
            near = np.ix_(*[np.flatnonzero(d <= d.min() + 1e-9) for d in away])
            assert got[index] in volume[near]

    def test_the_way_back_is_on_the_old_grid(self):
        spacing_mm = (5.0, 0.7, 0.7)
        shape, centre_mm = (11, 61, 53), (28.0, 22.0, 18.0)
        mask = sphere(shape, spacing_mm, centre_mm, 14.0).astype(np.uint8)
        coarse = to_spacing(mask, spacing_mm, (4.0, 1.3, 1.3), labels=True)
        back = resample.to_shape(coarse.astype(np.float32), shape, labels=False)
        assert back.shape == shape
        assert back.dtype == np.float32
        assert 0 <= back.min() <= back.max() <= 1
        overlap = 2 * np.count_nonzero((back > 0.5) & (mask > 0))
        assert overlap / (np.count_nonzero(back > 0.5) + np.count_nonzero(mask)) > 0.93

    @parameterized.parameters(True, False)
    def test_the_same_spacing_changes_nothing(self, labels):
        volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        got = to_spacing(volume, (1.5, 1.0, 1.0), (1.5, 1.0, 0), labels=labels)
        np.testing.assert_array_equal(got, volume)
        assert np.shares_memory(got, volume)

    @parameterized.product(labels=[True, False], shape=[(8, 3, 11), (5, 6, 7)])
    def test_a_box_is_a_part_of_the_whole(self, labels, shape):
        volume = np.random.default_rng(0).integers(-1000, 400, (5, 6, 7), np.int16)
        box = slice(2, 4), slice(None), slice(1, 6)
        got = resample.to_shape(volume, shape, labels=labels, box=box)
        whole = resample.to_shape(volume, shape, labels=labels)
        np.testing.assert_array_equal(got, whole[box])

    @parameterized.parameters(
        ((1.0, 0.0, 1.0), (1.0, 1.0, 1.0)),
        ((1.0, 1.0, 1.0), (1.0, -1.0, 1.0)),
        ((1.0, 1.0), (1.0, 1.0)),
        ((1.0, 1.0, np.nan), (0.0, 0.0, 0.0)),
        ((1e30, 1.0, 1.0), (0.0, 0.0, 0.0)),
    )
    def test_spacings_that_are_none_are_refused(self, spacing_mm, wanted_mm):
        with pytest.raises(ValueError, match=r"spacings|voxels from 0.01 to 50 mm apart"):
            to_spacing(np.zeros((2, 2, 2)), spacing_mm, wanted_mm, labels=False)

    @parameterized.parameters(((0, 2, 2), (2, 2, 2)), ((2, 2, 2), (2, 2)), ((2, 2, 2), (2, 0, 2)))
    def test_volumes_without_voxels_are_refused(self, old, new):
        with pytest.raises(ValueError, match="D, H, W"):
            resample.to_shape(np.zeros(old), new, labels=True)
