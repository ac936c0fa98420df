"""The whole job on phantoms: train, evaluate, report; again, it does nothing."""

import csv
import json

import numpy as np
import pytest
from etils import epath

from jaxlung import config_file, dry_run, evaluate, job


def make_config(data_dir):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.data_dir = str(data_dir)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    config = make_config(folder / "data")
    job.run(config, epath.Path(folder / "run"))
    return config, folder / "run"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_workdir_holds_everything(finished):
    _, path = finished
    names = {file.name for file in path.iterdir()}
    splits = ("train", "validation", "test")
    assert names >= {
        "config.json",
        "checkpoints",
        "metrics.csv",
        "tensorboard",
        "figures",
        "report.html",
        "splits.csv",
        "panels_test.npz",
        *(f"scores_{split}.csv" for split in splits),
        *(f"summary_{split}.json" for split in splits),
    }
    assert not [name for name in names if name.endswith(".tmp")]


def test_every_image_of_every_split_is_scored_once(finished):
    _, path = finished
    listed = read_csv(path / "splits.csv")
    for split in ("train", "validation", "test"):
        rows = read_csv(path / f"scores_{split}.csv")
        want = sorted(row["image_id"] for row in listed if row["split"] == split)
        assert sorted(row["image_id"] for row in rows) == want
        summary = json.loads((path / f"summary_{split}.json").read_text())
        assert summary["num_images"] == len(rows)
        mean = np.mean([float(row["mae"]) for row in rows])
        np.testing.assert_allclose(summary["scores"]["mae"], mean, rtol=1e-6)
        groups = summary["by_group"]
        assert {"COVID-19", "Non-COVID", "Normal"} == set(groups)
        assert sum(group["num_images"] for group in groups.values()) == len(rows)
        assert set(summary["baselines"]) == {"threshold", "mean_mask"}


def test_panels_are_what_the_scores_say(finished):
    _, path = finished
    rows = {row["image_id"]: row for row in read_csv(path / "scores_test.csv")}
    panels = np.load(path / "panels_test.npz", allow_pickle=False)
    for image_id, score, raw, pred in zip(
        panels["image_id"], panels["score"], panels["raw"], panels["pred"], strict=True
    ):
        np.testing.assert_allclose(score, float(rows[str(image_id)]["f1_macro"]))
        np.testing.assert_array_equal(
            pred, np.select([raw > 190 / 255, raw > 62.5 / 255], [255, 125], 0)
        )
    best = max(rows.values(), key=lambda row: float(row["f1_macro"]))
    assert panels["score"][0] == float(best["f1_macro"])


def test_a_finished_run_does_nothing(finished, caplog):
    config, path = finished
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.suffix != ".json"}
    with caplog.at_level("INFO", logger="absl"):
        job.run(config, epath.Path(path))
    assert "this run is finished" in caplog.text
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_evaluating_again_gives_the_same_scores(finished):
    _, path = finished
    before = (path / "scores_validation.csv").read_text()
    job.run_evaluate(epath.Path(path), "validation")
    assert (path / "scores_validation.csv").read_text() == before


def test_an_unknown_split_and_an_untrained_run_are_errors(finished, tmp_path):
    config, path = finished
    with pytest.raises(ValueError, match="'tset', want one of train, validation, test"):
        job.run_evaluate(epath.Path(path), "tset")
    with pytest.raises(ValueError, match="there is no checkpoint to evaluate"):
        evaluate.evaluate(config, epath.Path(tmp_path), {}, ["test"])


def test_a_dry_run_needs_no_data_and_counts_like_paper_and_pencil():
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.phantom_images = 0
    costs = dry_run.dry_run(config)
    assert json.loads(dry_run.to_line(costs)) == costs
    assert costs["parameters"] == 1678
    # Multiplications and additions of all convolutions at 32 x 32 and 16 x 16; forward, and
    # twice as much backward but for the first layer's input. The rest (BatchNorm, ReLU, loss,
    # Adam) is small channels' large share: between one and three times as much in all.
    full, half = 32 * 32, 16 * 16
    convolutions = 9 * (1 * 4 + 4 * 4 + 8 * 4 + 4 * 4) * full + 4 * full
    convolutions += 9 * (4 * 8 + 8 * 8) * half + 4 * 8 * 4 * half
    forward_and_backward = 3 * 2 * convolutions
    assert 0.9 < costs["flops_per_image"] / forward_and_backward < 3
    assert costs["memory_bytes"] > 4 * 3 * 1678
