"""Histories of runs: the score of the checkpoint that each selection would choose."""

import pytest
from etils import epath

from jaxlung.config import config_file
from jaxlung.study import histories
from jaxlung.training import metrics_log

LOSSES = (0.5, 0.3, 0.4, 0.2)
SCORES = (0.6, 0.8, 0.7, 0.75)


def make_config(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.epochs = 5
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture
def path(tmp_path):
    """A run that finished four epochs."""
    names = metrics_log.columns("iou_macro")
    rows = [
        dict.fromkeys(names, 0.0)
        | {"step": 10 * epoch, "epoch": epoch, "val_loss": loss, "val_iou_macro": score}
        for epoch, (loss, score) in enumerate(zip(LOSSES, SCORES, strict=True), 1)
    ]
    (tmp_path / "metrics.csv").write_text(metrics_log.to_csv(rows, names))
    return epath.Path(tmp_path)


@pytest.mark.parametrize(
    ("selection", "want", "key"),
    [
        ("best", (-0.5, -0.3, -0.3, -0.2), "loss"),
        ("best_score", (0.6, 0.8, 0.8, 0.8), "iou_macro"),
        ("last", SCORES, "iou_macro"),
    ],
)
def test_the_score_is_that_of_the_selected_checkpoint(path, selection, want, key):
    config = make_config(selection=selection)
    got = histories.load(path, config)
    assert (got.epochs, got.scores) == ((1, 2, 3, 4), want)
    assert not got.is_complete
    assert histories.score_key(config, path) == key


def test_a_run_is_complete_after_its_last_epoch_or_when_it_stopped_early(path):
    assert histories.load(path, make_config(epochs=4)).is_complete
    # Of the losses, those after the second lower it by less than 0.15.
    early = make_config(**{"control.stop_patience": 2, "control.stop_min_delta": 0.15})
    assert histories.load(path, early).is_complete
    early.control.stop_patience = 3
    assert not histories.load(path, early).is_complete


def test_a_run_that_never_began_has_no_history(tmp_path):
    got = histories.load(epath.Path(tmp_path / "none"), make_config(), failure="no memory")
    assert (got.epochs, got.failure) == ((), "no memory")


def test_a_damaged_table_is_named(path):
    (path / "metrics.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: want the columns"):
        histories.load(path, make_config())
