"""The NSD by area has the numbers of DeepMind's surface-distance, and areas those of geometry."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from jaxlung.metrics import surface, surface_area


def pair():
    noise = np.random.default_rng(7).standard_normal((2, 9, 10, 11))
    return ndimage.gaussian_filter(noise, (0, 1, 1, 1)) > 0


def ball(radius_mm, spacing_mm):
    lengths = [2 * math.ceil(radius_mm / mm) + 3 for mm in spacing_mm]
    axes = [mm * (np.arange(n) - n // 2) for n, mm in zip(lengths, spacing_mm, strict=True)]
    return sum(x**2 for x in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2


def area(mask, spacing_mm):
    spacing = np.array(spacing_mm, float)
    table = (surface_area._areas if mask.ndim == 3 else surface_area._lengths)(spacing)
    return table[surface_area._codes(mask)].sum()


class TestAgreesWithSurfaceDistance:
    """The numbers are of version 0.1, which does not run on NumPy 2 as it is."""

    @pytest.mark.parametrize(
        ("spacing_mm", "tolerance_mm", "want"),
        [
            ((1, 1, 1), 0, 0.6102229110296609),
            ((1, 1, 1), 1, 0.9177147565038157),
            ((2.5, 0.75, 0.625), 1, 0.9107679932158396),
        ],
    )
    def test_on_volumes(self, spacing_mm, tolerance_mm, want):
        pred, reference = pair()
        got = surface_area.nsd_by_area(pred, reference, spacing_mm, tolerance_mm)
        assert got == pytest.approx(want, abs=1e-12)

    @pytest.mark.parametrize(
        ("spacing_mm", "tolerance_mm", "want"),
        [
            ((1, 1), 0, 0.2809001639490218),
            ((1, 1), 1, 0.5560725378400968),
            ((0.75, 0.625), 0.7, 0.4905866337648104),
        ],
    )
    def test_on_pictures(self, spacing_mm, tolerance_mm, want):
        pred, reference = pair()[:, 4]
        got = surface_area.nsd_by_area(pred, reference, spacing_mm, tolerance_mm)
        assert got == pytest.approx(want, abs=1e-12)


class TestArea:
    def test_planes_have_the_area_of_their_voxels_faces(self):
        block = np.ones((20, 30, 40), bool)
        # Marching cubes cut the edges, so it is a little less than 2 (ab + bc + ca).
        got, want = area(block, (2, 1, 0.5)), 2 * (40 * 30 + 30 * 20 + 20 * 40)
        assert 0.95 * want < got < want

    @pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (2.5, 0.75, 0.625)])
    def test_balls_have_about_the_area_of_spheres(self, spacing_mm):
        # Steps of half a voxel make it too large, but far less than voxels' faces: those have 1.5.
        got = area(ball(25, spacing_mm), spacing_mm) / (4 * math.pi * 25**2)
        assert 1 < got < 1.2

    def test_circles_have_the_length_of_circles(self):
        got = area(ball(30, (1, 1)), (1, 1)) / (2 * math.pi * 30)
        assert 1 < got < 1.1

    def test_all_256_cases_have_triangles_but_the_empty_and_the_full(self):
        areas = surface_area._areas(np.ones(3))
        assert areas[0] == areas[255] == 0
        assert (areas[1:255] > 0.2).all()
        np.testing.assert_array_equal(areas, areas[::-1])


class TestProperties:
    @pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.7, 1.3)])
    def test_axes_and_order_of_the_masks_do_not_matter(self, spacing_mm):
        pred, reference = pair()
        want = surface_area.nsd_by_area(pred, reference, spacing_mm, 0.8)
        assert 0.2 < want < 0.98
        for axes in itertools.permutations(range(3)):
            turned = pred.transpose(axes)[::-1], reference.transpose(axes)[::-1]
            spacing = [spacing_mm[axis] for axis in axes]
            assert surface_area.nsd_by_area(*turned, spacing, 0.8) == pytest.approx(want)
        assert surface_area.nsd_by_area(reference, pred, spacing_mm, 0.8) == pytest.approx(want)

    def test_equal_masks_score_1_and_a_wide_tolerance_too(self):
        pred, reference = pair()
        assert surface_area.nsd_by_area(pred, pred, 1.0, 0) == 1
        assert surface_area.nsd_by_area(pred, reference, 1.0, 99) == 1

    def test_it_differs_from_the_nsd_of_voxels(self):
        pred, reference = pair()
        voxels = surface.surface_scores(pred, reference, (2.5, 0.75, 0.625), 1)["nsd"]
        by_area = surface_area.nsd_by_area(pred, reference, (2.5, 0.75, 0.625), 1)
        assert abs(voxels - by_area) > 0.01

    def test_empty_masks(self):
        none, some = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
        assert surface_area.nsd_by_area(none, none, 1.0, 1) == 1
        assert surface_area.nsd_by_area(none, some, 1.0, 9) == 0
        assert surface_area.nsd_by_area(some, none, 1.0, 9) == 0

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            (dict(tolerance_mm=-1), "tolerance_mm: got -1, want a number of 0 or more"),
            (dict(tolerance_mm=math.nan), "tolerance_mm: got nan"),
            (dict(spacing_mm=(1, 1)), "want 3 numbers above 0"),
            (dict(pred=np.ones((2, 2, 2))), "want bool masks"),
            (dict(pred=np.ones((2, 2), bool)), "must agree"),
        ],
    )
    def test_bad_input_is_refused(self, changes, match):
        mask = np.ones((3, 3, 3), bool)
        arguments = dict(pred=mask, reference=mask, spacing_mm=1.0, tolerance_mm=1.0)
        with pytest.raises(ValueError, match=match):
            surface_area.nsd_by_area(**(arguments | changes))
