"""Files of out-of-fold predictions: each image once, what seeds share, and when they are made."""

import csv
import logging as std_logging

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.evaluation import probs_files
from jaxlung.image import png_file
from jaxlung.study import out_of_fold
from tests.study import made_folds

LEVELS = {0: {"a.png": 10, "b.jpg": 20, "c.png": 30}, 1: {"a.png": 20, "b.jpg": 50, "c.png": 30}}
FOLDS = {0: (["a.png", "b.jpg"], ["c.png"]), 1: (["b.jpg"], ["a.png", "c.png"])}  # by seed


def make_maps(path, seeds=(0, 1), group="all folds", keep=True):
    """Two folds for each seed, and the maps that they keep, of a single level each."""
    runs = []
    for seed in seeds:
        for fold, names in enumerate(FOLDS[seed]):
            rows = [
                {"image_id": name, "patient_id": f"of {name}", "group": "", "dice": 0.5}
                for name in names
            ]
            run = made_folds.make_run(path, "mask", seed, fold, rows, group=group)
            for name in names if keep else ():
                level = np.full((4, 6), LEVELS[seed][name], np.uint8)
                file = run.path / "probs_test" / probs_files.name_file(name, ".png")
                file.parent.mkdir(exist_ok=True)
                png_file.write(file, level)
            runs.append(run)
    return runs


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def read_level(path):
    with Image.open(path) as image:
        return int(np.unique(np.asarray(image)).item())


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_image_has_one_map_the_mean_over_seeds(tmp_path, seeds):
    out_of_fold.write(make_maps(tmp_path, seeds), epath.Path(tmp_path))
    folder = tmp_path / "out_of_fold"
    table = read(folder / "predictions.csv")
    assert [row["image_id"] for row in table] == ["a.png", "b.jpg", "c.png"]
    assert {row["num_seeds"] for row in table} == {str(len(seeds))}
    for row in table:
        want = np.mean([LEVELS[seed][row["image_id"]] for seed in seeds])
        assert read_level(folder / row["file"]) == want
    assert [x.name for x in sorted((folder / "maps").iterdir())] == ["a.png", "b.jpg.png", "c.png"]


def test_the_scores_have_a_row_per_image_and_seed(tmp_path):
    out_of_fold.write(make_maps(tmp_path), epath.Path(tmp_path))
    table = read(tmp_path / "out_of_fold" / "scores.csv")
    assert [(row["seed"], row["fold"], row["image_id"]) for row in table] == [
        ("0", "0", "a.png"),
        ("0", "0", "b.jpg"),
        ("0", "1", "c.png"),
        ("1", "0", "b.jpg"),
        ("1", "1", "a.png"),
        ("1", "1", "c.png"),
    ]
    assert table[0] == {
        "run": "fold_0_seed_0",
        "seed": "0",
        "fold": "0",
        "image_id": "a.png",
        "patient_id": "of a.png",
        "group": "",
        "dice": "0.5",
    }


def test_a_diagnosis_has_a_column_of_mean_probabilities(tmp_path):
    runs = []
    for seed, probs in ((0, (0.2, 0.4)), (1, (0.4, 0.9))):
        for fold, prob in enumerate(probs):
            row = {"image_id": f"i{fold}", "patient_id": "p", "probability": prob}
            runs.append(made_folds.make_run(tmp_path, "diagnosis", seed, fold, [row]))
    out_of_fold.write(runs, epath.Path(tmp_path))
    table = read(tmp_path / "out_of_fold" / "predictions.csv")
    assert [float(row["probability"]) for row in table] == pytest.approx([0.3, 0.65])
    assert not (tmp_path / "out_of_fold" / "maps").exists()


def test_maps_are_made_again_only_if_a_run_was_scored_again(tmp_path):
    runs, path = make_maps(tmp_path), epath.Path(tmp_path)
    out_of_fold.write(runs, path)
    one = tmp_path / "out_of_fold" / "maps" / "a.png"
    before = one.stat().st_mtime_ns
    out_of_fold.write(runs, path)
    assert one.stat().st_mtime_ns == before
    runs[0].summary.__dict__["weights_digest"] = "other weights"
    png_file.write(runs[0].path / "probs_test" / "a.png", np.full((4, 6), 90, np.uint8))
    out_of_fold.write(runs, path)
    assert read_level(one) == (90 + 20) / 2


def test_groups_of_folds_have_folders_of_their_own(tmp_path):
    runs = make_maps(tmp_path, (0,), "SE + FV") + make_maps(tmp_path, (0,), "CE/FV")
    out_of_fold.write(runs, epath.Path(tmp_path))
    folders = sorted(x.name for x in (tmp_path / "out_of_fold").iterdir())
    assert folders == ["CE%2FFV", "SE + FV"]
    assert out_of_fold.tables(epath.Path(tmp_path)) == [
        f"out_of_fold/{folder}/{name}.csv"
        for folder in folders
        for name in ("predictions", "scores")
    ]


@pytest.mark.parametrize("keep", [True, False])
def test_without_the_maps_of_all_runs_there_are_scores_only_which_is_told(tmp_path, keep, caplog):
    runs = make_maps(tmp_path, keep=keep)
    one = runs[0].path / "probs_test" / "a.png"
    one.unlink(missing_ok=True)
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        out_of_fold.write(runs, epath.Path(tmp_path))
    assert f"{1 if keep else 6} maps of single runs are missing, {one} first" in caplog.text
    assert "jaxlung evaluate --workdir=RUN --split=test" in caplog.text
    assert [x.name for x in (tmp_path / "out_of_fold").iterdir()] == ["scores.csv"]


def test_the_maps_of_the_runs_may_be_deleted_afterwards(tmp_path):
    runs = make_maps(tmp_path, (0,))
    for _ in range(2):
        out_of_fold.write(runs, epath.Path(tmp_path))
        for run in runs:
            for file in run.path.glob("probs_test/*"):
                file.unlink()
    assert read_level(tmp_path / "out_of_fold" / "maps" / "a.png") == 10


def test_a_study_without_folds_has_no_such_files(tmp_path):
    runs = make_maps(tmp_path, (0,))
    for run in runs:
        run.config.data.folds = 0
    out_of_fold.write(runs, epath.Path(tmp_path))
    assert not (tmp_path / "out_of_fold").exists()
    assert out_of_fold.tables(epath.Path(tmp_path)) == []
