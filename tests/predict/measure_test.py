"""Measures agree with numbers worked by hand, and sides with those of made-up and real chests."""

import functools
import math
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxlung.predict import measure, sides
from tfds_builders.phantoms import chest_anatomy, chest_ct

REAL_LUNGS = pathlib.Path(__file__).parents[3] / "shared/realdata/xray_infection_gb/lung_masks"

# Two lungs of 8 and 12 pixels, as shown: the patient's right first.
LUNGS = np.array(
    [
        [1, 1, 0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1, 1, 1],
    ],
    bool,
)
INFECTION = np.array(
    [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
    ],
    bool,
)  # 3 in the right lung, 3 in the left, 2 between them
PROBS = np.where(INFECTION, np.float32(0.75), np.float32(0))


def told(row):
    """The cells that are not empty."""
    assert tuple(row) == measure.COLUMNS
    return {name: value for name, value in row.items() if not math.isnan(value)}


def seeded_lungs(seed):
    """(right, left) [S, S] bool of a standing patient."""
    rng = np.random.default_rng(seed)
    lungs = chest_anatomy.make_lungs(rng, chest_anatomy.make_frame(rng, 96))
    return lungs.right > 0, lungs.left > 0


def is_one_piece(mask):
    """But for crumbs."""
    labels, _ = ndimage.label(mask)
    return np.bincount(labels[mask]).max() > 0.98 * np.count_nonzero(mask)


def bridged(right, left):
    """Both lungs in one piece: the middle third of their rows is filled between their centres."""
    both = right | left
    rows = np.flatnonzero(both.any(axis=1))
    between = slice(*(int(np.nonzero(lung)[1].mean()) for lung in (right, left)))
    both[rows[len(rows) // 3] : rows[2 * len(rows) // 3], between] = True
    assert is_one_piece(both)
    return both


@functools.cache
def chest():
    """A CT's lungs, [D, H, W] uint8, 0, LEFT or RIGHT."""
    return chest_ct.make(np.random.default_rng(3), (24, 64, 64), (8.0, 5.0, 5.0), 0.1).lung_mask


class TestSizes:
    def test_infection_within_and_between_lungs(self):
        row = measure.measure(INFECTION, PROBS, LUNGS, (0.5, 0.25), target="infection")
        got = told(row)
        entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) * 6 / 20
        want = {
            "lung_area_px": 20,
            "right_lung_area_px": 8,
            "left_lung_area_px": 12,
            "infection_area_px": 8,
            "right_infection_area_px": 3,
            "left_infection_area_px": 3,
            "lung_area_mm2": 2.5,
            "right_lung_area_mm2": 1,
            "left_lung_area_mm2": 1.5,
            "infection_area_mm2": 1,
            "right_infection_area_mm2": 0.375,
            "left_infection_area_mm2": 0.375,
            "thoracic_width_px": 7,
            "thoracic_width_mm": 7 * 0.25,
            "infected_share": 6 / 20,
            "right_infected_share": 3 / 8,
            "left_infected_share": 3 / 12,
            "confidence": 0.75,
            "entropy_bits": entropy,
        }
        assert got == pytest.approx(want)

    def test_lungs_alone_have_no_share(self):
        got = told(measure.measure(LUNGS, None, None, None, target="lung"))
        areas = dict(lung_area_px=20, right_lung_area_px=8, left_lung_area_px=12)
        assert got == areas | dict(thoracic_width_px=7)

    def test_infection_alone_has_no_sides(self):
        got = told(measure.measure(INFECTION, None, None, None, target="infection"))
        assert got == dict(infection_area_px=8)

    def test_mirrored_picture_swaps_sides_and_nothing_else(self):
        options = dict(spacing=(0.5, 0.25), target="infection")
        usual = measure.measure(INFECTION, PROBS, LUNGS, **options)
        flipped = [np.fliplr(array) for array in (INFECTION, PROBS, LUNGS)]
        assert measure.measure(*flipped, **options, mirrored=True) == pytest.approx(
            usual, nan_ok=True
        )
        seen = measure.measure(*flipped, **options, mirrored=None)
        assert seen["right_lung_area_px"] == usual["left_lung_area_px"]

    def test_volumes_are_of_voxels(self):
        preds, lungs = (np.repeat(array[None], 5, 0) for array in (INFECTION, LUNGS))
        got = told(measure.measure(preds, None, lungs, (2.5, 0.5, 0.25), target="infection"))
        ml = 5 * 2.5 * 0.5 * 0.25 / 1000  # of a pixel in all five slices
        want = dict(lung_volume_ml=20, right_lung_volume_ml=8, left_lung_volume_ml=12)
        want |= dict(infection_volume_ml=8, right_infection_volume_ml=3)
        want = {name: ml * count for name, count in want.items()}
        want |= dict(left_infection_volume_ml=3 * ml, infected_share=0.3)
        want |= dict(right_infected_share=3 / 8, left_infected_share=0.25)
        assert got == pytest.approx(want)

    def test_voxels_of_a_tilted_gantry_are_smaller_than_their_edges_say(self):
        affine = np.diag([-0.5, -0.5, 2.0, 1])
        affine[1, 2] = 2 * math.tan(math.radians(30))  # each slice a step to the front
        edges = (float(np.linalg.norm(affine[:3, 2])), 0.5, 0.5)
        preds = np.ones((2, 5, 5), bool)
        options = dict(probs=None, lungs=None, spacing=edges, target="infection")
        got = measure.measure(preds, **options, affine=affine)["infection_volume_ml"]
        assert got == pytest.approx(50 * 2 * 0.5 * 0.5 / 1000)
        assert measure.measure(preds, **options)["infection_volume_ml"] == pytest.approx(
            got / math.cos(math.radians(30))
        )


class TestNothingFound:
    def test_no_infection_is_size_0_and_no_confidence(self):
        nothing = np.zeros_like(LUNGS)
        got = told(measure.measure(nothing, PROBS * 0, LUNGS, None, target="infection"))
        assert got["infection_area_px"] == got["infected_share"] == got["entropy_bits"] == 0
        assert "confidence" not in got

    def test_no_lungs_are_size_0_and_no_share(self):
        nothing = np.zeros_like(LUNGS)
        probs = np.full(LUNGS.shape, 0.5, np.float32)
        got = told(measure.measure(INFECTION, probs, nothing, None, target="infection"))
        assert got["right_lung_area_px"] == got["left_lung_area_px"] == 0
        assert got["infection_area_px"] == 8
        assert not any("share" in name for name in got)
        assert got["entropy_bits"] == pytest.approx(1)  # of the whole image, as lungs are missing

    def test_one_lung_leaves_the_other_without_a_share(self):
        lung = LUNGS & (np.arange(7) < 3)
        got = told(measure.measure(INFECTION, None, lung, None, target="infection"))
        assert (got["right_lung_area_px"], got["left_lung_area_px"]) == (8, 0)
        assert "thoracic_width_px" not in got
        assert got["right_infected_share"] == got["infected_share"] == 3 / 8
        assert "left_infected_share" not in got


class TestCertainty:
    def test_entropy_is_0_when_sure_and_1_when_undecided(self):
        mask = np.ones((2, 3), bool)
        for prob, want in ((0, 0), (1, 0), (0.5, 1), (0.11, 0.4999), (0.89, 0.4999)):
            probs = np.full((2, 3), prob, np.float32)
            got = measure.measure(mask, probs, None, None, target="lung")
            assert got["entropy_bits"] == pytest.approx(want, abs=1e-3)
            assert got["confidence"] == pytest.approx(prob)

    def test_rounding_past_1_stays_finite(self):
        probs = np.float32([[1.0000001, -1e-8]])
        got = measure.measure(probs > 0.5, probs, None, None, target="lung")
        assert got["entropy_bits"] == pytest.approx(0, abs=1e-5)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            (dict(target="heart"), "target: want one of infection, lung, got 'heart'"),
            (dict(preds=INFECTION.astype(np.uint8)), "preds: want .* bool, got .* uint8"),
            (dict(preds=INFECTION[0]), "preds: want"),
            (dict(probs=PROBS[1:]), "probs: want the shape of preds"),
            (dict(lungs=LUNGS[:, 1:]), "lungs: want the shape of preds"),
            (dict(lungs=LUNGS.astype(int)), "bool lungs"),
            (dict(spacing=(1.0, 1.0, 1.0)), "spacing: want 2 numbers"),
            (dict(spacing=(0.0, 1.0)), "spacing: want 2 numbers of mm above 0"),
        ],
    )
    def test_is_refused_in_a_sentence(self, changes, match):
        arguments = dict(preds=INFECTION, probs=PROBS, lungs=LUNGS, spacing=None)
        with pytest.raises(ValueError, match=match):
            measure.measure(**{**arguments, "target": "infection", **changes})

    def test_volume_needs_a_spacing(self):
        with pytest.raises(ValueError, match="three axes of a volume"):
            measure.measure(INFECTION[None], None, None, None, target="infection")


class TestSides:
    @pytest.mark.parametrize("degrees", [-30, 0, 30])
    @pytest.mark.parametrize("seed", range(4))
    def test_lungs_of_made_up_chests(self, seed, degrees):
        turned = [
            ndimage.rotate(lung.view(np.uint8), degrees, order=0) > 0 for lung in seeded_lungs(seed)
        ]
        for got, want in zip(sides.part(np.logical_or(*turned)), turned, strict=True):
            np.testing.assert_array_equal(got, want)

    @pytest.mark.parametrize("seed", range(8))
    def test_lungs_that_touch_are_cut_between_them(self, seed):
        right, left = seeded_lungs(seed)
        low, high = sides.part(bridged(right, left))
        wrong = np.count_nonzero(low & left) + np.count_nonzero(high & right)
        assert wrong < 0.03 * np.count_nonzero(right | left)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("side", [0, 1])
    def test_a_lung_alone_is_not_cut(self, seed, side):
        lung = seeded_lungs(seed)[side]
        parts = sides.part(lung)
        assert np.count_nonzero(parts[side]) > 0.99 * np.count_nonzero(lung)

    def test_crumbs_go_to_the_nearer_lung(self):
        right, left = seeded_lungs(0)
        crumbs = np.zeros_like(right)
        crumbs[0, [5, 90]] = True
        low, high = sides.part(right | left | crumbs)
        np.testing.assert_array_equal(low, right | (crumbs & (np.arange(96) < 48)))
        np.testing.assert_array_equal(high, left | (crumbs & (np.arange(96) >= 48)))

    def test_a_lung_in_two_pieces_stays_one(self):
        right, left = seeded_lungs(1)
        rows = np.flatnonzero(left.any(axis=1))
        left[rows[len(rows) // 2]] = False
        right[: rows[4 * len(rows) // 5]] = False
        halves = np.sort(np.bincount(ndimage.label(left)[0][left]))[-2:]
        assert np.count_nonzero(right) < halves.min()  # The largest two are of one lung.
        low, high = sides.part(right | left)
        np.testing.assert_array_equal(low, right)
        np.testing.assert_array_equal(high, left)

    @pytest.mark.parametrize("touch", [False, True])
    def test_lungs_of_a_volume(self, touch):
        label = chest()
        right, left = label == chest_ct.RIGHT, label == chest_ct.LEFT
        both = right | left
        if touch:
            middle = slice(*(int(np.nonzero(lung)[2].mean()) for lung in (right, left)))
            both[10:12, 30:33, middle] = True
            assert is_one_piece(both)
        low, high = sides.part(both)
        wrong = np.count_nonzero(low & left) + np.count_nonzero(high & right)
        assert wrong <= (0.03 if touch else 0) * np.count_nonzero(both)
        np.testing.assert_array_equal(low ^ high, both)

    @pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
    def test_nothing_has_two_empty_sides(self, shape):
        for part in sides.part(np.zeros(shape, bool)):
            assert part.shape == shape
            assert not part.any()

    def test_parts_are_apart_and_together_whole_of_any_mask(self):
        rng = np.random.default_rng(0)
        for density in (0.02, 0.2, 0.5, 0.8, 1.1):
            mask = rng.random((9, 12)) < density
            low, high = sides.part(mask)
            assert not (low & high).any()
            np.testing.assert_array_equal(low | high, mask)

    @pytest.mark.skipif(not REAL_LUNGS.exists(), reason="the real sample is not here")
    def test_real_lungs_are_on_the_side_that_their_source_says(self):
        for path in sorted(REAL_LUNGS.iterdir()):
            image = Image.open(path)
            image.thumbnail((256, 256), Image.Resampling.NEAREST)
            label = np.asarray(image)
            low, high = sides.part(label > 0)
            np.testing.assert_array_equal(low, label == 1, err_msg=path.name)
            np.testing.assert_array_equal(high, label == 2, err_msg=path.name)
