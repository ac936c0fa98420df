"""The table of a cross-validation: each image once, groups apart, intervals over patients."""

import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import out_of_fold

HEADER = "image_id,patient_id,group,dice_stored,iou_stored"


@pytest.fixture
def folds(tmp_path):
    """Two folds of one seed, and a second seed of the first; patient p has two images."""
    tables = {
        "fold_0": ["a,p,adults,0.9,0.8", "b,p,adults,0.8,0.6"],
        "fold_1": ["c,q,adults,0.7,0.5", "d,r,children,0.96,0.9", "e,s,children,0.98,0.94"],
        "again": ["a,p,adults,0.7,0.6", "b,p,adults,1.0,1.0"],
    }
    for name, lines in tables.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores_test.csv").write_text("\n".join([HEADER, *lines, ""]))
    return [tmp_path / name for name in tables]


def test_an_image_that_several_runs_tested_counts_once(folds):
    images = out_of_fold.load(folds)
    assert sorted(images) == list("abcde")
    np.testing.assert_allclose(images["a"].scores, [0.8, 0.7])
    np.testing.assert_allclose(images["b"].scores, [0.9, 0.8])


def test_groups_stand_apart_and_all_images_come_last(folds):
    lines = out_of_fold.tabulate(list(out_of_fold.load(folds).values())).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:3] for row in rows[2:]] == [
        ["adults", "3", "2"],
        ["children", "2", "2"],
        ["all", "5", "4"],
    ]
    assert rows[2][3].startswith("0.800 (")
    assert [row[-1] for row in rows[2:]] == ["2", "0", "2"]  # a and c; b is 0.9.


def test_an_interval_of_one_image_a_patient_is_students(folds):
    values = np.array([0.95, 0.97, 0.96, 0.98])
    images = [out_of_fold.Image(str(i), "", np.array([x, x])) for i, x in enumerate(values)]
    row = out_of_fold.tabulate(images).splitlines()[-1]
    reach = stats.t.ppf(0.975, 3) * stats.sem(values)
    logit = np.log(0.965 / 0.035) + np.array([-1, 1]) * reach / (0.965 * 0.035)
    low, high = 1 / (1 + np.exp(-logit))
    assert f"| 0.965 ({low:.3f} to {high:.3f}) |" in row


def test_a_run_without_scores_is_told(folds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["out_of_fold", str(folds[0]), str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        out_of_fold.main()
    assert f"{tmp_path}: want scores_test.csv with dice_stored" in capsys.readouterr().err
