"""A whole sweep on generated X-rays, against the best run trained alone in one go."""

import csv

import pytest
from etils import epath

from jaxlung import job
from jaxlung.config import study_folder
from jaxlung.study import runner, study, study_file, sweep

SWEEP = sweep.Sweep(
    fields={"optimizer.learning_rate": (1e-3, 1e-1, 1e-2)}, reduction=3, first_epochs=1
)
RUN = study.Run(
    "net",
    "network",
    "covidqu_residual:quick",
    {"epochs": 2, "selection": "best_score", "optimizer.schedule": "cosine"},
)
STUDY = study.Study("A sweep", study.vary(RUN, SWEEP), ("dice",), sweep=SWEEP)


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_best_run_is_the_one_that_was_never_stopped(tmp_path):
    path = epath.Path(tmp_path / "study")
    configs = study_file.make_configs(STUDY, path, [f"--config.data.data_dir={tmp_path / 'data'}"])
    assert runner.run(STUDY, configs, path)

    rows = read(path / "sweep.csv")
    assert [(row["epochs"], row["state"]) for row in rows] == [
        ("2", "best"),
        ("1", "stopped"),
        ("1", "stopped"),
    ]
    best, *losers = (row["run"] for row in rows)
    scores = [
        float(read(path / "runs" / name / "metrics.csv")[0]["val_mean_iou"])
        for name in (best, *losers)
    ]
    assert scores[0] == max(scores)
    for name in losers:  # They keep their checkpoint, and the test split stays unseen.
        assert list((path / "runs" / name / "checkpoints").iterdir())
        assert not list((path / "runs" / name).glob("s*_test.*"))
    (row,) = read(path / "study.csv")
    assert row["run"] == best
    assert study_folder.members(path) == [path / "runs" / best]

    alone, swept = tmp_path / "alone", path / "runs" / best
    job.run(configs[best], epath.Path(alone))
    for name in ("finished.txt", "summary_test.json", "scores_test.csv", "scores_validation.csv"):
        assert (alone / name).read_bytes() == (swept / name).read_bytes(), name
    timed = ("images_per_s", "seconds")
    for got, want in zip(read(swept / "metrics.csv"), read(alone / "metrics.csv"), strict=True):
        assert {k: x for k, x in got.items() if k not in timed} == {
            k: x for k, x in want.items() if k not in timed
        }
