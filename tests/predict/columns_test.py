"""The header of predictions.csv has the columns that a command can fill, and no others."""

import itertools
import math
import pathlib
import types

import numpy as np
import pytest

from jaxlung.predict import columns, ensemble, inputs, measure
from tests.predict import dicom_picture_test

MASK = np.zeros((2, 6, 9), bool)
MASK[:, 1:5, 1:4] = MASK[:, 1:5, 5:8] = True
TEAMS = [
    ("lung",),
    ("levels",),
    ("infection",),
    ("diagnosis",),
    ("lung", "infection"),
    ("lung", "levels"),
    ("lung", "levels", "infection", "diagnosis"),
]


def make_team(roles, is_volumetric=False, num_members=1):
    judge = types.SimpleNamespace(is_volumetric=is_volumetric)
    lungs_from = next((role for role in ("lung", "levels") if role in roles), "")
    ensembles = {role: ensemble.Ensemble((judge,) * num_members, judge) for role in roles}
    return ensemble.Team(ensembles, lungs_from)


@pytest.fixture
def items(tmp_path):
    """An X-ray with the size of its pixels, one without, and files that are none."""
    plain, sized = tmp_path / "plain.dcm", tmp_path / "sized.dcm"
    dicom_picture_test.make().save_as(plain, enforce_file_format=True)
    dataset = dicom_picture_test.make(ImagerPixelSpacing=[0.2, 0.2])
    dataset.save_as(sized, enforce_file_format=True)
    damaged, picture = tmp_path / "damaged.dcm", tmp_path / "a.png"
    damaged.write_bytes(sized.read_bytes()[:300])
    picture.write_bytes(b"\x89PNG\r\n\x1a\n...")
    paths = [plain, damaged, picture, pathlib.Path("missing"), sized]
    return [inputs.Item(path.stem, "picture", path) for path in paths]


def filled(roles, is_volumetric, has_mm):
    """The measures that are numbers where both lungs and infection are found."""
    mask = MASK if is_volumetric else MASK[0]
    lungs = mask if {"lung", "levels"} & set(roles) else None
    target = "infection" if {"infection", "levels"} & set(roles) else "lung"
    if set(roles) == {"diagnosis"}:
        return set()
    probs = mask.astype(np.float32) if target in roles else None
    spacing = (1.0,) * mask.ndim if is_volumetric or has_mm else None
    row = measure.measure(mask, probs, lungs, spacing, target=target)
    return {name for name, value in row.items() if not math.isnan(value)}


@pytest.mark.parametrize("roles", TEAMS)
def test_the_measures_are_those_that_are_numbers_for_a_mask_of_both_lungs(roles, items):
    for is_volumetric, has_mm in itertools.product([False, True], repeat=2):
        team = make_team(roles, is_volumetric)
        chosen = columns.choose(team, items if has_mm else items[:-1])
        want = filled(roles, is_volumetric, has_mm)
        assert {name for name in chosen if name in measure.COLUMNS} == want
        assert (
            ("diagnosis" in chosen) == ("covid19_probability" in chosen) == ("diagnosis" in roles)
        )
        assert ("warning" in chosen) == (bool(team.lungs_from) and not is_volumetric)
        assert list(chosen) == [name for name in columns.COLUMNS if name in chosen]


def test_a_lung_mask_has_a_short_header(items):
    assert columns.choose(make_team(["lung"]), items[:-1]) == (
        *("name", "path", "kind", "lung_area_px", "right_lung_area_px", "left_lung_area_px"),
        *("thoracic_width_px", "confidence", "entropy_bits", "warning", "seconds"),
    )


@pytest.mark.parametrize("roles", TEAMS)
def test_only_averaged_networks_disagree(roles, items):
    alone, several = (columns.choose(make_team(roles, num_members=n), items) for n in (1, 2))
    assert [x for x in several if x not in alone] == [f"{role}_disagreement" for role in roles]
