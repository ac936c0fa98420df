"""The loop: resuming to the bit, signals, losses that are not finite."""

import csv
import logging
import math
import os
import signal

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung import checkpoint, config_file, journal, train
from jaxlung import system as system_lib
from tests import array_source

SPLITS = {
    "train": array_source.ArraySource(10),
    "validation": array_source.ArraySource(6, seed=1),
}


def make_config(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.epochs = 3
    config.augment.update(flip_probability=0.5, shift_fraction=0.1)
    config.update_from_flattened_dict(changes)
    return config


def last_state(path, config):
    with checkpoint.open_manager(epath.Path(path)) as manager:
        state, _ = checkpoint.restore_latest(
            manager, system_lib.make_system(config).abstract_state()
        )
    return jax.device_get(state)


def read_metrics(path):
    with (path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    timed = ("images_per_s", "seconds")
    return [{name: x for name, x in row.items() if name not in timed} for row in rows]


class StopAt:
    """A source that sends this process a signal when a record is read for the n-th time."""

    def __init__(self, source, reads, number):
        self._source, self._left, self._number = source, reads, number

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)
        return self._source[index]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    assert train.train(make_config(), epath.Path(path), SPLITS)
    return path


def assert_same_run(path, whole_run):
    got, want = (last_state(folder, make_config()) for folder in (path, whole_run))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert read_metrics(path) == read_metrics(whole_run)


def test_losses_fall_and_every_epoch_has_a_row(whole_run):
    rows = read_metrics(whole_run)
    assert [(row["step"], row["epoch"]) for row in rows] == [("3", "1"), ("5", "2"), ("8", "3")]
    assert float(rows[-1]["loss_excess"]) < float(rows[0]["loss_excess"])
    assert list((whole_run / "tensorboard").glob("events*"))
    assert all(float(row["loss_excess"]) < float(row["loss"]) for row in rows)


def test_streaming_gives_the_same_run_to_the_bit(whole_run, tmp_path):
    config = make_config(**{"data.placement": "host"})
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    assert_same_run(tmp_path, whole_run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_in_the_middle_of_an_epoch_and_the_run_goes_on_to_the_bit(
    whole_run, tmp_path, number
):
    config = make_config(**{"data.placement": "host"})
    # 14 reads: in the second epoch, whatever Grain reads ahead.
    stopped = {**SPLITS, "train": StopAt(SPLITS["train"], 14, number)}
    assert not train.train(config, epath.Path(tmp_path), stopped)
    assert int(last_state(tmp_path, config).step) < 8
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    assert_same_run(tmp_path, whole_run)


def test_a_run_saved_before_its_last_rows_drops_them_and_writes_them_again(whole_run, tmp_path):
    config = make_config()
    config.epochs = 2
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    # As if killed after the row of step 8 and before its checkpoint.
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("8,3,9,9,9,9,9,9\n8,3,9")
    assert train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert_same_run(tmp_path, whole_run)


def test_a_finished_run_does_nothing(whole_run):
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.csv")}
    assert train.train(make_config(), epath.Path(whole_run), SPLITS)
    assert before == {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.csv")}


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    config = make_config()
    config.log_every_steps = 1
    make_step = system_lib.System.jit_train_step

    def spoil(self, take):
        step_fn = make_step(self, take)

        def spoilt(state, store, item, seed):
            state, metrics = step_fn(state, store, item, seed)
            with jax.transfer_guard("allow"):
                if int(state.step) == 5:
                    metrics = metrics | {"loss": metrics["loss"] * math.nan}
            return state, metrics

        return spoilt

    monkeypatch.setattr(system_lib.System, "jit_train_step", spoil)
    with pytest.raises(FloatingPointError, match=r"step 5: loss is nan.*learning_rate"):
        train.train(config, epath.Path(tmp_path), SPLITS)
    assert int(last_state(tmp_path, config).step) == 3


def test_a_damaged_newest_checkpoint_costs_an_epoch_and_nothing_else(whole_run, tmp_path, caplog):
    config = make_config()
    config.epochs = 2
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    # All of them: which one holds the values is Orbax's affair.
    for file in (tmp_path / "checkpoints" / "5" / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert "checkpoints/5: checkpoint 5" in caplog.text
    assert_same_run(tmp_path, whole_run)


def test_mean_losses_leave_the_padding_out(whole_run):
    config = make_config()
    system = system_lib.make_system(config)
    state = system.init_state()
    from jaxlung.data import pipeline

    def losses_of(source):
        road = pipeline.open_road(source, system.settings, system.shardings, "validation")
        return train.mean_losses(system, state, road)

    class Part:
        def __init__(self, source, indices):
            self._source, self._indices = source, indices

        def __len__(self):
            return len(self._indices)

        def __getitem__(self, index):
            return self._source[self._indices[index]]

    whole = SPLITS["train"]
    parts = [losses_of(Part(whole, [i])) for i in range(5)]
    want = journal.Losses(*np.mean(parts, axis=0))
    np.testing.assert_allclose(losses_of(Part(whole, range(5))), want, rtol=1e-5)
