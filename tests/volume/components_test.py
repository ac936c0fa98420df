"""Connected components agree with a flood fill and with cases worked by hand."""

import itertools

import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.volume import components


def pieces_by_hand(mask):
    """Sets of voxels that touch, by flood fill, in C order of their first voxels."""
    left = set(map(tuple, np.argwhere(mask)))
    pieces = []
    for voxel in map(tuple, np.argwhere(mask)):
        if voxel not in left:
            continue
        left.discard(voxel)
        piece, edge = {voxel}, [voxel]
        while edge:
            here = edge.pop()
            for step in itertools.product((-1, 0, 1), repeat=3):
                there = tuple(map(sum, zip(here, step, strict=True)))
                if there in left:
                    left.discard(there)
                    piece.add(there)
                    edge.append(there)
        pieces.append(piece)
    return pieces


def mask_of(*boxes, shape=(6, 8, 10)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


class LargestTest(parameterized.TestCase):
    @parameterized.product(count=[1, 2, 5, 100], seed=[0, 1])
    def test_matches_a_flood_fill(self, count, seed):
        mask = np.random.default_rng(seed).random((7, 9, 8)) < 0.07
        pieces = sorted(pieces_by_hand(mask), key=len, reverse=True)
        assert 5 < len(pieces) < 100
        want = np.zeros_like(mask)
        for piece in pieces[:count]:
            want[tuple(np.transpose(list(piece)))] = True
        np.testing.assert_array_equal(components.largest(mask, count), want)

    def test_voxels_that_share_a_corner_are_one_piece(self):
        corner = mask_of(np.s_[1:3, 1:3, 1:3], np.s_[3, 3, 3])
        np.testing.assert_array_equal(components.largest(corner, 1), corner)
        apart = mask_of(np.s_[1:3, 1:3, 1:3], np.s_[4, 3, 3])
        np.testing.assert_array_equal(components.largest(apart, 1), mask_of(np.s_[1:3, 1:3, 1:3]))

    def test_empty_and_full(self):
        for mask in (mask_of(), ~mask_of()):
            np.testing.assert_array_equal(components.largest(mask, 2), mask)

    def test_bad_input_is_an_error(self):
        with pytest.raises(ValueError, match=r"uint8, want a .D, H, W. bool mask"):
            components.largest(mask_of().astype(np.uint8), 1)
        with pytest.raises(ValueError, match=r"got \(8, 10\) bool"):
            components.largest(mask_of()[0], 1)
        with pytest.raises(ValueError, match="count: got 0, want 1 or more"):
            components.largest(mask_of(), 0)
