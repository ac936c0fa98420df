"""Volumes and shares by hand."""

import math

import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.metrics import volume

VOXEL_ML = 0.002


def mask_of(*boxes, shape=(10, 20, 30)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


class VolumeScoresTest(parameterized.TestCase):
    def test_by_hand(self):
        lung = mask_of(np.s_[:, :10, :20])  # 2,000 voxels
        pred = mask_of(np.s_[:5, 5:15, :10])  # 500 voxels, 250 in the lung
        reference = mask_of(np.s_[:, :3, :10])  # 300 voxels, all in the lung
        got = volume.volume_scores(pred, reference, lung, VOXEL_ML)
        want = {
            "volume_ml": 1.0,
            "true_volume_ml": 0.6,
            "volume_error_ml": 0.4,
            "share": 0.125,
            "true_share": 0.15,
            "share_error": -0.025,
        }
        assert got == pytest.approx(want)
        assert all(type(score) is float for score in got.values())

    def test_a_finer_grid_of_the_same_body_changes_nothing(self):
        masks = np.random.default_rng(0).random((3, 4, 5, 6)) < 0.4
        finer = masks.repeat(2, axis=1).repeat(3, axis=3)
        got = volume.volume_scores(*finer, VOXEL_ML / 6)
        assert got == pytest.approx(volume.volume_scores(*masks, VOXEL_ML))

    def test_nothing_found_and_nothing_there_is_no_error(self):
        none, lung = mask_of(), mask_of(np.s_[2:4])
        assert set(volume.volume_scores(none, none, lung, VOXEL_ML).values()) == {0.0}

    def test_shares_of_no_lung_are_nan_and_volumes_are_not(self):
        some = mask_of(np.s_[0, 0, 0])
        got = volume.volume_scores(some, some, mask_of(), VOXEL_ML)
        assert got["volume_ml"] == pytest.approx(0.002)
        assert all(math.isnan(got[name]) for name in ("share", "true_share", "share_error"))

    def test_bad_input_is_an_error(self):
        mask = mask_of()
        bad = [
            (
                (mask, mask, mask.astype(np.uint8), VOXEL_ML),
                "want bool masks, got bool, bool and u",
            ),
            ((mask, mask[1:], mask, VOXEL_ML), "must agree, in 3 dimensions"),
            ((mask[0], mask[0], mask[0], VOXEL_ML), "must agree, in 3 dimensions"),
            ((mask, mask, mask, 0.0), "voxel_ml: got 0.0, want a number above 0"),
            ((mask, mask, mask, math.nan), "voxel_ml: got nan, want a number above 0"),
        ]
        for arguments, message in bad:
            with pytest.raises(ValueError, match=message):
                volume.volume_scores(*arguments)


class VoxelTest(parameterized.TestCase):
    @parameterized.parameters(0, 20, 30)
    def test_is_the_height_above_the_slice_times_its_area(self, degrees):
        # Slices [I, J] of 0.4 mm^2 pixels, 5 mm apart along an axis that leans.
        tilt = math.radians(degrees)
        columns = np.array([[0.8, 0, 0], [0, 0.5, -5 * math.sin(tilt)], [0, 0, 5 * math.cos(tilt)]])
        want = 0.4 * 5 * math.cos(tilt) / 1000
        for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
            affine = np.eye(4)
            affine[:3, :3] = columns[:, order] * [1, -1, -1]
            affine[:3, 3] = (-100.0, 30.0, 7.0)
            assert volume.ml_of_voxel(affine) == pytest.approx(want)
