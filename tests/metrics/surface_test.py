"""Surface distances against brute force and by hand."""

import itertools
import math

import numpy as np
import pytest
from absl.testing import parameterized
from scipy import ndimage
from scipy.spatial import distance

from jaxlung.metrics import surface

TOLERANCE_MM = 0.95  # No distance is near it, whatever the spacing below.


def surface_by_hand(mask):
    """Coordinates of foreground voxels with a neighbour that is background or outside."""
    voxels = []
    for voxel in itertools.product(*map(range, mask.shape)):
        steps = [(axis, step) for axis in range(mask.ndim) for step in (-1, 1)]
        neighbours = [
            tuple(np.add(voxel, step * np.eye(mask.ndim, dtype=int)[a])) for a, step in steps
        ]
        inside = [
            all(0 <= i < size for i, size in zip(n, mask.shape, strict=True)) and mask[n]
            for n in neighbours
        ]
        if mask[voxel] and not all(inside):
            voxels.append(voxel)
    return np.array(voxels, np.float64)


def scores_by_hand(pred, reference, spacing):
    apart = distance.cdist(surface_by_hand(pred) * spacing, surface_by_hand(reference) * spacing)
    there, back = apart.min(axis=1), apart.min(axis=0)
    return {
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "asd": np.mean([*there, *back]),
        "nsd": np.mean(np.array([*there, *back]) <= TOLERANCE_MM),
    }


def blobs(shape, seed):
    noise = np.random.default_rng(seed).normal(size=(2, *shape))
    return ndimage.gaussian_filter(noise, (0, *[1.5] * len(shape))) > 0.1


def mask_of(shape, *boxes):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


class SurfaceScoresTest(parameterized.TestCase):
    @parameterized.product(
        shape_and_spacing=[
            ((13, 17), (1.0, 1.0)),
            ((13, 17), (0.3, 2.0)),
            ((6, 9, 11), (5.0, 0.7, 0.8)),
        ],
        seed=[0, 1, 2],
    )
    def test_match_brute_force(self, shape_and_spacing, seed):
        shape, spacing = shape_and_spacing
        pred, reference = blobs(shape, seed)
        got = surface.surface_scores(pred, reference, spacing, TOLERANCE_MM)
        want = scores_by_hand(pred, reference, spacing)
        assert got == pytest.approx(want)
        assert 0 < got["nsd"] < 1
        without = {name: score for name, score in got.items() if name != "nsd"}
        assert surface.surface_scores(pred, reference, spacing) == without

    @parameterized.product(
        shape_and_spacing=[((40, 50), (0.3, 2.0)), ((9, 20, 22), (5.0, 0.7, 0.8))],
        sigma=[0.0, 1.0, 4.0],
    )
    def test_both_ways_to_the_nearest_voxel_agree(self, shape_and_spacing, sigma):
        shape, spacing = shape_and_spacing
        noise = np.random.default_rng(0).normal(size=(2, *shape))
        masks = ndimage.gaussian_filter(noise, (0, *[sigma] * len(shape))) > 0
        source, target = map(surface._surface, masks)
        by_tree = surface._by_tree(source, target, np.array(spacing))
        by_transform = surface._by_transform(source, target, np.array(spacing))
        np.testing.assert_allclose(by_tree, by_transform, atol=1e-6)
        # The choice between them sees noise and smooth masks.
        chosen = surface.distances(source, target, np.array(spacing))
        np.testing.assert_allclose(chosen, by_tree, atol=1e-6)

    def test_nsd_by_hand(self):
        # A line of 20 pixels, and the same 2 pixels of 0.7 mm lower with one left out.
        reference = mask_of((9, 20), np.s_[3, :])
        pred = mask_of((9, 20), np.s_[5, :19])
        for tolerance_mm, want in [(0, 0), (1.39, 0), (1.4, 38 / 39), (1.8, 1)]:
            got = surface.surface_scores(pred, reference, (0.7, 1.0), tolerance_mm)["nsd"]
            assert got == pytest.approx(want)
        assert surface.surface_scores(pred, pred, 1.0, 0)["nsd"] == 1

    def test_two_squares_three_pixels_apart(self):
        # Columns 2, 3 and 7, 8: each square has two pixels at 4 and two at 5.
        pred = mask_of((6, 12), np.s_[2:4, 2:4])
        reference = mask_of((6, 12), np.s_[2:4, 7:9])
        got = surface.surface_scores(pred, reference, 1.0)
        assert got == pytest.approx({"hd95": 5.0, "asd": 4.5})

    def test_spacing_is_by_axis(self):
        pred = mask_of((4, 5, 6), np.s_[1, 1, 1])
        reference = mask_of((4, 5, 6), np.s_[2, 3, 1])
        got = surface.surface_scores(pred, reference, (5.0, 0.5, 3.0))
        want = math.hypot(5.0, 2 * 0.5)
        assert got == pytest.approx({"hd95": want, "asd": want})

    def test_the_nearest_voxel_is_the_nearest_in_mm(self):
        # Three columns of 1 mm are nearer than one slice of 5 mm.
        pred = mask_of((3, 8), np.s_[0, 0])
        reference = mask_of((3, 8), np.s_[1, 0], np.s_[0, 3])
        there, _ = surface._directed_distances(pred, reference, np.array([5.0, 1.0]))
        np.testing.assert_allclose(there, [3.0])

    def test_the_larger_percentile_counts_and_every_voxel_weighs_the_same(self):
        # Of 20 predicted pixels one is 10 off: their 95th percentile is 0.05 x 10. All 39 pooled
        # would have a percentile of 0, and the directed means a mean of 0.25.
        reference = mask_of((14, 19), np.s_[0, :])
        pred = reference | mask_of((14, 19), np.s_[10, 3])
        got = surface.surface_scores(pred, reference, 1.0)
        assert got == pytest.approx({"hd95": 0.5, "asd": 10 / 39})
        assert surface.surface_scores(reference, pred, 1.0) == pytest.approx(got)

    def test_the_border_of_the_image_is_a_surface(self):
        full = np.ones((5, 5), bool)
        inner = mask_of((5, 5), np.s_[1:4, 1:4])
        # 16 border pixels: 12 at 1, 4 corners at sqrt 2; 8 inner ones at 1.
        got = surface.surface_scores(full, inner, 1.0)["asd"]
        assert got == pytest.approx((12 + 4 * math.sqrt(2) + 8) / 24)

    @parameterized.parameters(2, 3)
    def test_cropping_changes_nothing(self, ndim):
        pred, reference = blobs((9,) * ndim, seed=ndim)
        spacing = (2.0, 0.5, 1.0)[:ndim]
        want = surface.surface_scores(pred, reference, spacing)
        wide = [np.pad(mask, [(3, 20)] * ndim) for mask in (pred, reference)]
        # Foreground at the image's border stays surface when background is put around it.
        assert surface.surface_scores(*wide, spacing) == want
        # And without any cropping.
        surfaces = [surface._surface(mask) for mask in wide]
        cropped = surface._directed_distances(*wide, np.array(spacing))
        for got, pair in zip(cropped, (surfaces, surfaces[::-1]), strict=True):
            np.testing.assert_array_equal(got, surface.distances(*pair, np.array(spacing)))

    def test_flips_and_equal_masks(self):
        pred, reference = blobs((12, 15), seed=4)
        want = surface.surface_scores(pred, reference, (2.0, 1.0))
        flipped = surface.surface_scores(pred[::-1, ::-1], reference[::-1, ::-1], (2.0, 1.0))
        assert flipped == pytest.approx(want)
        assert surface.surface_scores(pred, pred, 1.0) == {"hd95": 0.0, "asd": 0.0}

    def test_empty_masks(self):
        some, none = mask_of((4, 4), np.s_[1, 1]), np.zeros((4, 4), bool)
        assert surface.surface_scores(none, none, 1.0) == {"hd95": 0.0, "asd": 0.0}
        for pair in ((some, none), (none, some)):
            assert all(math.isnan(score) for score in surface.surface_scores(*pair, 1.0).values())
            assert surface.surface_scores(*pair, 1.0, 5.0)["nsd"] == 0
        assert surface.surface_scores(none, none, 1.0, 0.0)["nsd"] == 1

    @parameterized.parameters(-1.0, math.nan, math.inf)
    def test_a_tolerance_that_can_not_be_is_an_error(self, tolerance_mm):
        mask = mask_of((4, 4), np.s_[1, 1])
        with pytest.raises(ValueError, match=f"tolerance_mm: got {tolerance_mm}, want a number"):
            surface.surface_scores(mask, mask, 1.0, tolerance_mm)

    @parameterized.parameters(
        (np.zeros((4, 4)), np.zeros((4, 4), bool), 1.0, "want bool masks, got float64"),
        (np.zeros((4, 4), bool), np.zeros((4, 5), bool), 1.0, "must agree"),
        (np.zeros(4, bool), np.zeros(4, bool), 1.0, "2 or 3 dimensions"),
        (np.zeros((4, 4), bool), np.zeros((4, 4), bool), (1.0, 1.0, 1.0), "want 2 numbers"),
        (np.zeros((4, 4), bool), np.zeros((4, 4), bool), (1.0, 0.0), "above 0"),
        (np.zeros((4, 4), bool), np.zeros((4, 4), bool), math.nan, "got nan"),
    )
    def test_bad_input_is_an_error(self, pred, reference, spacing_mm, message):
        with pytest.raises(ValueError, match=message):
            surface.surface_scores(pred, reference, spacing_mm)
