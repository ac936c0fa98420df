"""Lungs like those of frontal X-rays pass; others are told by what is unusual about them."""

import csv
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxlung.predict import network, plausible
from tests.predict import networks, strange_pictures
from tfds_builders.phantoms import chest_xray

REAL = pathlib.Path(__file__).parents[3] / "shared/realdata"
SETS = ("xray_lung_v7", "xray_lung_kermany_v7", "xray_lung_kermany_v7_more")
CHEST = chest_xray.make(np.random.default_rng(0), 128, "none").lung_mask
RIGHT = CHEST & (np.arange(128) < 64)
PROBS = CHEST * np.float32(0.9)


def padded(lungs, share):
    """The lungs on a larger picture, so that they cover this share of it."""
    size = round((lungs.sum() / share) ** 0.5)
    grown = np.zeros((size, size), bool)
    grown[: len(lungs), : len(lungs)] = lungs
    return grown


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1, 3, 17])
def test_phantom_lungs_pass_at_any_size(seed, scale):
    lungs = chest_xray.make(np.random.default_rng(seed), 128, "infection").lung_mask
    lungs = lungs.repeat(scale, 0).repeat(scale, 1)
    assert plausible.doubts(lungs, lungs * np.float32(0.9)) == []
    assert plausible.doubts(lungs[:, ::-1]) == []


@pytest.mark.parametrize(
    ("lungs", "want"),
    [
        (np.zeros((9, 9), bool), ["no lungs found"]),
        (padded(CHEST, 0.05), ["lungs cover 5 % of the picture"]),
        (RIGHT, ["one lung only"]),
        (CHEST[::-1], ["lungs look upside down"]),
        (CHEST[::4], ["lungs are 0.3 times as high as wide"]),
        (CHEST.repeat(3, 0), ["lungs are 3.", " times as high as wide"]),
    ],
)
def test_what_is_unusual_is_told(lungs, want):
    told = "; ".join(plausible.doubts(lungs))
    for part in want:
        assert part in told


def test_large_pictures_get_the_words_of_small_ones():
    for lungs in (RIGHT, CHEST[::-1], padded(CHEST, 0.05)):
        large = lungs.repeat(16, 0).repeat(16, 1)
        assert plausible.doubts(large, large * np.float32(0.6)) == plausible.doubts(
            lungs, lungs * np.float32(0.6)
        )
    speck = np.zeros((4000, 4000), bool)
    speck[1, 1] = True
    assert "lungs cover 6.2e-06 % of the picture" in plausible.doubts(speck)


def test_measures_agree_with_numbers_worked_by_hand():
    lungs = np.zeros((20, 30), bool)
    lungs[2:12, 4:10] = lungs[6:16, 14:18] = lungs[19, 20:25] = True
    shape = plausible.shape_of(lungs)
    assert (shape.area, shape.num_pieces) == (105 / 600, 3)
    assert shape.smaller_lung == 45 / 105
    assert shape.height == 18 / 21
    assert shape.filled == 105 / (18 * 21)
    assert shape.overlap == pytest.approx(6 / 10)
    # The lowest 5 of the 14 rows of the right part: row 15 of 14-17 and row 19 of 20-24.
    assert shape.flare == pytest.approx(((4 * 15.5 + 5 * 22) / 9 - 6.5 - (15.5 - 6.5)) / 21)


def test_undecided_networks_are_told():
    assert plausible.doubts(CHEST, PROBS) == []
    (told,) = plausible.doubts(CHEST, CHEST * np.float32(0.6))
    assert told == "the network is undecided (0.97 bits within the lungs)"


@pytest.mark.skipif(not REAL.exists(), reason="the real sample is not here")
def test_no_real_mask_is_doubted():
    with open(REAL / "MANIFEST.csv", newline="") as file:
        paths = [REAL / row["mask"] for row in csv.DictReader(file) if row["set"] in SETS]
    assert len(paths) == 632
    doubted = {path: plausible.doubts(np.asarray(Image.open(path)) > 127) for path in paths}
    assert {path.name: told for path, told in doubted.items() if told} == {}


def test_any_network_can_be_shown_twenty_strange_pictures(tmp_path, capsys):
    run = networks.save_run(tmp_path / "run", networks.make_config("lung"), bias=0.5)
    strange = strange_pictures.make(strange_pictures.chest())
    assert len(strange) == 20
    assert all(image.dtype == np.uint8 and image.ndim == 2 for image in strange.values())
    net = network.load(run)  # Untrained: it finds something on some of them, of odd shapes.
    assert all(strange_pictures.doubts(net, image) for image in strange.values())
    strange_pictures.main([str(run)])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 20


@pytest.mark.parametrize(("share", "text"), [(1.0, "100 %"), (0.031, "3 %"), (0.0004, "0.04 %")])
def test_shares_are_spelled_as_people_write_them(share, text):
    assert plausible._percent(share) == text
