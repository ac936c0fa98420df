"""An asymmetric phantom in every orientation, oblique and sheared: left stays left."""

import itertools
import re

import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.volume import grid

SPACING_MM = (0.7, 0.9, 2.5)  # along i, j, k
SHAPE = (5, 6, 7)
CENTRE_MM = np.array([12.0, -40.0, 300.0])
# Unit vectors of letters in RAS+ millimetres.
RAS = dict(R=(1, 0, 0), L=(-1, 0, 0), A=(0, 1, 0), P=(0, -1, 0), S=(0, 0, 1), I=(0, 0, -1))
ALL_48 = [
    "".join(letters)
    for pairs in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*pairs)
]


def turned(degrees):
    """A rotation about the patient's long axis, then half as much about left to right."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_s = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(np.deg2rad(degrees / 2)), np.sin(np.deg2rad(degrees / 2))
    return about_s @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def grid_of(letters, degrees=0.0, shape=SHAPE, spacing_mm=SPACING_MM):
    """A grid around CENTRE_MM whose axes grow to `letters`, then turned."""
    directions = turned(degrees) @ np.array([RAS[letter] for letter in letters], float).T
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing_mm
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return grid.Grid(shape, affine)


def phantom(where, direction):
    """1 at the voxel farthest to `direction` (RAS+), 0 elsewhere, and its index."""
    indices = np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), -1)
    points_mm = indices @ where.affine[:3, :3].T + where.affine[:3, 3]
    farthest = np.argmax(points_mm @ np.array(direction, float))
    array = np.zeros(where.shape, np.int16)
    array.ravel()[farthest] = 1
    return array, np.unravel_index(farthest, where.shape)


class ToCanonicalTest(parameterized.TestCase):
    @parameterized.product(letters=["RAS", "LPS", "PSR", "AIL"], degrees=[0.0, 20.0])
    def test_left_anterior_superior_is_the_top_slice_first_row_last_column(self, letters, degrees):
        where = grid_of(letters, degrees)
        # The corner, whatever the turn: farthest along all three turned directions.
        array, _ = phantom(where, turned(degrees) @ (-1, 1, 1))
        canonical = grid.to_canonical(array, where)
        depth, _, width = canonical.shape
        assert np.argwhere(canonical).tolist() == [[depth - 1, 0, width - 1]]

    @parameterized.product(letters=ALL_48, degrees=[0.0, 20.0])
    def test_there_and_back_is_exact(self, letters, degrees):
        where = grid_of(letters, degrees)
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        canonical = grid.to_canonical(array, where)
        assert canonical.flags.c_contiguous
        assert canonical.shape == grid.canonical_shape(where)
        np.testing.assert_array_equal(grid.from_canonical(canonical, where), array)

    @parameterized.parameters(*ALL_48)
    def test_axes_grow_to_superior_posterior_left(self, letters):
        where = grid_of(letters, 10.0)
        # Each voxel carries its own place, worked out by hand as affine @ index.
        i, j, k = np.indices(SHAPE)
        ones = np.ones(SHAPE)
        x, y, z = (where.affine @ np.stack([i, j, k, ones]).reshape(4, -1))[:3].reshape(3, *SHAPE)
        assert (np.diff(grid.to_canonical(z, where), axis=0) > 0).all()
        assert (np.diff(grid.to_canonical(y, where), axis=1) < 0).all()
        assert (np.diff(grid.to_canonical(x, where), axis=2) < 0).all()

    @parameterized.product(letters=["RAS", "LPS", "PSR"], degrees=[0.0, 20.0])
    def test_spacing_is_the_distance_between_neighbours(self, letters, degrees):
        where = grid_of(letters, degrees)
        points_mm = np.indices(SHAPE).reshape(3, -1).T @ where.affine[:3, :3].T
        places = [grid.to_canonical(p.reshape(SHAPE), where) for p in points_mm.T]
        d, h, w = (
            np.linalg.norm([p[step] - p[0, 0, 0] for p in places])
            for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        )
        np.testing.assert_allclose(grid.canonical_spacing_mm(where), (d, h, w), rtol=1e-9)

    def test_a_sagittal_acquisition_by_hand(self):
        # i to posterior 0.9 mm, j to inferior 0.8 mm, k to right 3 mm.
        affine = [[0, 0, 3, 0], [-0.9, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]]
        where = grid.Grid((4, 5, 6), affine)
        array = np.arange(120).reshape(4, 5, 6)
        assert grid.orientation(where) == "PIR"
        assert grid.canonical_shape(where) == (5, 4, 6)
        np.testing.assert_allclose(grid.canonical_spacing_mm(where), (0.8, 0.9, 3.0))
        want = array.transpose(1, 0, 2)[::-1, :, ::-1]
        np.testing.assert_array_equal(grid.to_canonical(array, where), want)

    @parameterized.parameters(*ALL_48)
    def test_orientation_is_read_off_the_affine(self, letters):
        assert grid.orientation(grid_of(letters, 20.0)) == letters

    def test_other_shapes_are_refused(self):
        where = grid_of("PSR")
        with pytest.raises(ValueError, match=r"\(5, 7, 6\).*\(5, 6, 7\)"):
            grid.to_canonical(np.zeros((5, 7, 6)), where)
        with pytest.raises(ValueError, match=r"\(5, 6, 7\).*\(6, 5, 7\)"):
            grid.from_canonical(np.zeros(SHAPE), where)


class GridTest(parameterized.TestCase):
    @parameterized.named_parameters(
        ("zero_column", np.diag([1.0, 0, 1, 1]), "inverted"),
        ("parallel_columns", [[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "inverted"),
        ("nan", np.diag([1.0, np.nan, 1, 1]), "finite"),
        ("infinite", [[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "finite"),
        ("astronomical", np.diag([1e300, 1, 1, 1]), "inverted"),
        ("last_row", np.ones((4, 4)), "last row"),
        ("three_by_three", np.eye(3), "last row"),
    )
    def test_an_affine_that_leads_nowhere_is_refused(self, affine, match):
        with pytest.raises(ValueError, match=match):
            grid.Grid(SHAPE, affine)

    @parameterized.parameters(((5, 6),), ((5, 0, 7),), ((5, 6, 7, 1),))
    def test_a_shape_that_is_no_volume_is_refused(self, shape):
        with pytest.raises(ValueError, match="three axes"):
            grid.Grid(shape, np.eye(4))

    def test_tiny_voxels_and_a_tilted_gantry_are_fine(self):
        affine = np.diag([0.02, 0.02, 0.02, 1])
        affine[1, 2] = 0.02 * np.tan(np.deg2rad(30))
        assert grid.orientation(grid.Grid(SHAPE, affine)) == "RAS"

    @parameterized.product(axis=[0, 1, 2], mm=[1e30, 1e-30, -1e30, 51, 0.009])
    def test_voxels_that_no_scanner_has_are_refused_with_their_size(self, axis, mm):
        affine = np.diag([0.7, 0.7, 5, 1])
        affine[axis, axis] = mm
        with pytest.raises(ValueError, match=r"0\.01 to 50 mm apart, got ") as caught:
            grid.Grid(SHAPE, affine)
        assert f"{abs(mm):.4g}" in str(caught.value)

    def test_a_chest_is_not_doubted(self):
        for shape, mm in (((512, 512, 300), 0.7), ((122, 101, 30), 3.0), ((512, 512, 2), 0.6)):
            assert grid.doubt(grid.Grid(shape, np.diag([-mm, -mm, 1, 1]))) is None

    @parameterized.parameters(
        ((512, 512, 60), [0.07, 0.07, 0.5, 1], r"it measures 35\.84 x 35\.84 x 30 mm"),
        ((512, 512, 300), [7, 7, 25, 1], "it measures 3584 x 3584 x 7500 mm"),
        ((512, 512, 60), [1, 1, 1, 1], "identity"),
    )
    def test_centimetres_and_lost_spacing_are_doubted(self, shape, diagonal, match):
        assert re.search(match, grid.doubt(grid.Grid(shape, np.diag(diagonal))))

    def test_the_affine_is_kept_as_it_was(self):
        affine = np.eye(4)
        where = grid.Grid(SHAPE, affine)
        affine[0, 0] = 9
        assert where.affine[0, 0] == 1
        with pytest.raises(ValueError, match="read-only"):
            where.affine[0, 0] = 9


class RequireSameTest(parameterized.TestCase):
    def test_the_rounding_of_a_header_passes(self):
        a = grid_of("LPS", 20.0, shape=(512, 512, 301))
        grid.require_same("a", a, "b", grid.Grid(a.shape, a.affine.astype(np.float32)))

    @parameterized.named_parameters(
        ("shape", grid_of("LPS", shape=(5, 6, 8)), r"b\.nii.*a\.nii.*\(5, 6, 7\).*\(5, 6, 8\)"),
        ("flipped", grid_of("RPS"), r"b\.nii.*a\.nii.* mm away"),
        ("turned", grid_of("LPS", 0.5), r"b\.nii.*a\.nii.* mm away"),
    )
    def test_another_grid_is_refused_by_both_names(self, other, match):
        with pytest.raises(ValueError, match=match):
            grid.require_same("a.nii", grid_of("LPS"), "b.nii", other)

    @parameterized.parameters((0.0009, True), (0.0011, False))
    def test_the_tolerance_holds_at_the_far_corner(self, far_mm, is_same):
        a = grid.Grid((101, 1, 1), np.eye(4))
        b = grid.Grid((101, 1, 1), np.diag([1 + far_mm / 100, 1, 1, 1]))
        if is_same:
            grid.require_same("a", a, "b", b)
        else:
            with pytest.raises(ValueError, match=r"0\.0011 mm"):
                grid.require_same("a", a, "b", b)
