"""CT runs whole: phantoms through the command's job, resuming to the bit, both feeds alike."""

import csv
import json
import os
import signal

import jax
import nibabel
import numpy as np
import pytest
from etils import epath

from jaxlung import job
from jaxlung.config import config_file
from jaxlung.training import checkpoint
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib
from tests import volume_source

SPLITS = {
    "train": volume_source.VolumeSource([(9, 20, 30), (6, 18, 17), (8, 16, 16)]),
    "validation": volume_source.VolumeSource([(7, 20, 20)], seed=1),
}


def make_config(**changes):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    config.update_from_flattened_dict(changes)
    return config


def last_state(path, config):
    with checkpoint.open_manager(epath.Path(path)) as manager:
        like = system_lib.make_system(config).abstract_state()
        return checkpoint.restore_latest(manager, like)[0]


def test_the_best_checkpoint_is_the_highest_score_where_that_is_asked():
    val = train.journal.Means(loss=0.25, excess=0.1, score=0.75)
    assert train.find_rank("best_score", val) == -0.75
    assert train.find_rank("best", val) == train.find_rank("last", val) == 0.25


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_bit_on_the_other_feed(tmp_path, monkeypatch):
    config = make_config()
    assert train.train(config, epath.Path(tmp_path / "whole"), SPLITS)
    save = checkpoint.Saver.save

    def save_and_stop(*args):
        save(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoint.Saver, "save", save_and_stop)
    assert not train.train(config, epath.Path(tmp_path / "parts"), SPLITS)
    assert 3 <= int(last_state(tmp_path / "parts", config).step) < 6
    monkeypatch.setattr(checkpoint.Saver, "save", save)
    streamed = make_config(**{"data.placement": "host"})
    assert train.train(streamed, epath.Path(tmp_path / "parts"), SPLITS)
    got, want = (last_state(tmp_path / name, config) for name in ("parts", "whole"))
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.slow
def test_phantoms_go_all_the_way_to_masks_on_their_files_grids(tmp_path, caplog):
    config = make_config(**{"data.data_dir": str(tmp_path / "data")})
    path = epath.Path(tmp_path / "run")
    job.run(config, path)
    assert (path / "report.html").exists()
    splits = {}
    with open(path / "splits.csv", newline="") as file:
        for row in csv.DictReader(file):
            splits.setdefault(row["split"], []).append(row["image_id"])
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [3, 1, 2]
    raw = next((tmp_path / "data").rglob("raw"))
    for case in splits["test"]:
        predicted = nibabel.load(path / "predictions" / f"{case}.nii.gz")
        (ct,) = [x for x in raw.rglob(f"{case}.nii.gz") if "COVID" in str(x)]
        given = nibabel.load(ct)
        assert predicted.shape == given.shape
        np.testing.assert_allclose(predicted.affine, given.affine, atol=1e-4)
    summary = json.loads((path / "summary_test.json").read_text())
    assert {"dice", "hd95", "nsd", "volume_error_ml"} <= summary["scores"].keys()
    assert summary["baselines"]["hu_band"]["scores"]["dice"] > 0
    caplog.clear()
    with caplog.at_level("INFO", logger="absl"):
        job.run(config, path)
    assert "this run is finished" in caplog.text
    job.run_evaluate(None, path, "test")
    assert json.loads((path / "summary_test.json").read_text()) == summary
