"""The loop: resuming to the bit, signals, losses that are not finite, training control."""

import contextlib
import csv
import dataclasses
import logging
import math
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file
from jaxlung.evaluation import evaluate
from jaxlung.parallel import interrupt
from jaxlung.training import checkpoint, control, journal
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib
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


def wrap_steps(monkeypatch, wrapper):
    """Makes later runs call `wrapper(step_fn, state, ...)` for each dispatch."""
    make_step = system_lib.System.jit_train_step

    class Wrapped:
        def __init__(self, step_fn):
            self.lower, self._step_fn = step_fn.lower, step_fn

        def __call__(self, *args):
            return wrapper(self._step_fn, *args)

    monkeypatch.setattr(
        system_lib.System, "jit_train_step", lambda self, *args: Wrapped(make_step(self, *args))
    )


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


def test_a_run_stopped_after_an_epoch_goes_on_to_the_bit(tmp_path):
    """Two epochs of three, then the third: the schedule is that of three epochs throughout."""
    config = make_config(**{"optimizer.schedule": "cosine", "optimizer.learning_rate": 0.01})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.train(config, epath.Path(whole), SPLITS)
    assert train.train(config, epath.Path(parts), SPLITS, until_epoch=2)
    assert [row["step"] for row in read_metrics(parts)] == ["3", "5"]
    assert int(last_state(parts, config).step) == 5
    before = (parts / "metrics.csv").stat().st_mtime_ns
    assert train.train(config, epath.Path(parts), SPLITS, until_epoch=1)  # It is past that.
    assert (parts / "metrics.csv").stat().st_mtime_ns == before
    assert train.train(config, epath.Path(parts), SPLITS)
    jax.tree.map(
        np.testing.assert_array_equal, last_state(parts, config), last_state(whole, config)
    )
    assert read_metrics(parts) == read_metrics(whole)


def test_a_stop_before_the_first_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"until_epoch: got 0, want 1 or more\."):
        train.train(make_config(), epath.Path(tmp_path), SPLITS, until_epoch=0)


@pytest.mark.slow
def test_a_run_saved_before_its_last_rows_drops_them_and_writes_them_again(whole_run, tmp_path):
    config = make_config()
    config.epochs = 2
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    # As if killed after the row of step 8 and before its checkpoint.
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(",".join(["8", "3", *["9"] * 9]) + "\n8,3,9")
    assert train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert_same_run(tmp_path, whole_run)


def test_a_finished_run_does_nothing(whole_run):
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.csv")}
    assert train.train(make_config(), epath.Path(whole_run), SPLITS)
    assert before == {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.csv")}


@pytest.mark.parametrize("content", ["", "step,epoch\n"])
def test_emptied_metrics_are_restored_from_the_checkpoint(whole_run, tmp_path, content):
    shutil.copytree(whole_run, tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_text(content)
    assert train.train(make_config(), epath.Path(tmp_path / "run"), SPLITS)
    assert (tmp_path / "run" / "metrics.csv").read_text() == (whole_run / "metrics.csv").read_text()


def test_a_checkpoint_without_what_training_needs_is_named(tmp_path):
    config = make_config()
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        checkpoint.save(manager, system_lib.make_system(config).init_state(), {}, 0.5)
    with pytest.raises(ValueError, match=r"checkpoints/0: .* without control and epoch_steps"):
        train.train(config, epath.Path(tmp_path), SPLITS)


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    config = make_config()
    config.log_every_steps = 1

    def spoil(step_fn, state, *args):
        state, metrics = step_fn(state, *args)
        with jax.transfer_guard("allow"):
            if int(state.step) == 5:
                metrics = metrics | {"loss": metrics["loss"] * math.nan}
        return state, metrics

    wrap_steps(monkeypatch, spoil)
    with pytest.raises(FloatingPointError, match=r"step 5: loss is nan.*learning_rate"):
        train.train(config, epath.Path(tmp_path), SPLITS)
    assert int(last_state(tmp_path, config).step) == 3


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_an_epoch_and_nothing_else(whole_run, tmp_path, caplog):
    config = make_config()
    config.epochs = 2
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    # All of them: which one holds the values is Orbax's affair.
    for file in (tmp_path / "checkpoints" / "5" / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert "checkpoints/5: damaged checkpoint" in caplog.text
    assert_same_run(tmp_path, whole_run)


@contextlib.contextmanager
def count_compiled():
    """Yields a list that grows with every program that JAX compiles or loads.

    With newer versions of JAX, Orbax cuts arrays that several devices share into parts for each, by
    a program for each shape; these are left out.
    """
    names = []

    def listen(event, *_, fun_name="", **__):
        is_orbax = fun_name.removeprefix("jit(").removeprefix("jit_").startswith("slice")
        if event == "/jax/core/compile/backend_compile_duration" and not is_orbax:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_no_program_is_compiled_after_the_first_step(tmp_path, monkeypatch, placement):
    """Epochs of 10 steps are dispatches of 3 and of 1; the learning rate falls in between."""
    config = make_config(
        **control_of(plateau_patience=1),
        **{"step.steps_per_dispatch": 3, "data.placement": placement, "epochs": 4},
    )
    numbers = []

    def watch(step_fn, state, *args):
        numbers.append((len(jax.tree.leaves(args[1])[0]), len(compiled)))
        return step_fn(state, *args)

    wrap_steps(monkeypatch, watch)
    splits = SPLITS | {"train": array_source.ArraySource(40)}
    with count_compiled() as compiled:
        assert train.train(config, epath.Path(tmp_path), splits)
    assert [size for size, _ in numbers] == [3, 3, 3, 1] * 4
    assert len({row["learning_rate"] for row in read_metrics(tmp_path)}) > 1
    before = numbers[0][1]
    assert before > 3
    assert numbers[-1][1] == len(compiled) == before


def control_of(**changes):
    """Nothing counts as an improvement after the first epoch."""
    delta = {"control.plateau_min_delta": 100.0, "control.stop_min_delta": 100.0}
    return delta | {f"control.{name}": value for name, value in changes.items()}


def watch_steps(monkeypatch):
    """What every step of later runs added to the parameters: a list that grows."""
    moves = []

    def watch(step_fn, state, *args):
        with jax.transfer_guard("allow"):
            before = jax.device_get(state.params)
            state, metrics = step_fn(state, *args)
            moves.append(jax.tree.map(lambda a, b: np.array(b) - a, before, state.params))
        return state, metrics

    wrap_steps(monkeypatch, watch)
    return moves


def test_a_plateau_lowers_the_learning_rate_of_the_steps_that_follow(tmp_path, monkeypatch):
    moves = watch_steps(monkeypatch)
    plain, reduced = tmp_path / "plain", tmp_path / "reduced"
    config = make_config(**control_of(plateau_patience=1, plateau_factor=0.25))
    assert train.train(make_config(), epath.Path(plain), SPLITS)
    assert train.train(config, epath.Path(reduced), SPLITS)
    rates = [float(row["learning_rate"]) for row in read_metrics(reduced)]
    # The first epoch improves on nothing; the second is a plateau, which the third feels.
    assert rates == [1e-4, 1e-4, 2.5e-5]
    for step in range(5):
        jax.tree.map(np.testing.assert_array_equal, moves[8 + step], moves[step])
    # Step 6 begins with equal parameters and gradients. Differences of float32 parameters of
    # about 1: 6e-8 of a step of about 1e-4.
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want / 4, atol=3e-7), moves[13], moves[5]
    )
    assert float(last_state(reduced, config).learning_rate) == np.float32(6.25e-6)


def test_rates_follow_the_runs_own_validation_losses(tmp_path):
    settings = dict(plateau_patience=1, plateau_factor=0.5, plateau_min_delta=0.002)
    config = make_config(**{f"control.{name}": value for name, value in settings.items()})
    config.epochs = 6
    config.optimizer.learning_rate = 0.05
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    rows = read_metrics(tmp_path)
    state, want = control.start(0.05), []
    for row in rows:
        want.append(state.learning_rate)
        rules = control.Settings(**config.control)
        state = control.after_epoch(rules, state, float(row["val_loss"]))
    assert [float(row["learning_rate"]) for row in rows] == want
    assert 1 < len(set(want)) < 6  # Some epochs were plateaus and some were not.


def test_a_run_that_stopped_early_is_complete_and_does_not_go_on(tmp_path):
    config = make_config(**control_of(stop_patience=2))
    config.epochs = 5
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    before = (tmp_path / "metrics.csv").stat().st_mtime_ns
    assert [row["step"] for row in read_metrics(tmp_path)] == ["3", "5", "8"]
    assert train.train(config, epath.Path(tmp_path), SPLITS)
    assert (tmp_path / "metrics.csv").stat().st_mtime_ns == before
    assert int(last_state(tmp_path, config).step) == 8


@pytest.mark.slow
def test_a_run_stopped_between_epochs_takes_the_same_decisions_afterwards(tmp_path, monkeypatch):
    """The wait for a plateau, a cooldown and the wait for the end all outlive the process."""
    config = make_config(**control_of(plateau_patience=2, plateau_cooldown=2, stop_patience=4))
    config.epochs = 6
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.train(config, epath.Path(whole), SPLITS)
    rates = [float(row["learning_rate"]) for row in read_metrics(whole)]
    assert rates == [1e-4, 1e-4, 1e-4, 5e-5, 5e-5]  # Stopped after the fifth epoch of six.

    end_epoch = journal.Journal.end_epoch

    def kill_after(self, *args):
        end_epoch(self, *args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "end_epoch", kill_after)
        for step in (3, 5, 8, 10):
            assert not train.train(config, epath.Path(parts), SPLITS)
            assert int(last_state(parts, config).step) == step
    assert train.train(config, epath.Path(parts), SPLITS)
    assert read_metrics(parts) == read_metrics(whole)
    got, want = (last_state(folder, config) for folder in (parts, whole))
    jax.tree.map(np.testing.assert_array_equal, got, want)


class Late(interrupt.Interrupt):
    """A signal that comes just before the loop looks for one for the n-th time."""

    def __init__(self, looks):
        self._left = looks

    @property
    def received(self):
        self._left -= 1
        return "SIGTERM" if self._left <= 0 else ""


@pytest.mark.slow
def test_a_signal_that_comes_between_two_looks_loses_no_step(whole_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "catch", lambda: contextlib.nullcontext(Late(2)))
        assert not train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert int(last_state(tmp_path, make_config()).step) < 3
    assert train.train(make_config(), epath.Path(tmp_path), SPLITS)
    assert_same_run(tmp_path, whole_run)


class Inverted(array_source.ArraySource):
    """Dark lungs on bright ground: what is learned from the others makes it worse."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return dataclasses.replace(item, image=255 - item.image)


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    config = make_config(selection="best", **{"optimizer.learning_rate": 0.05})
    splits = SPLITS | {"validation": Inverted(6, seed=1)}
    path = epath.Path(tmp_path)
    assert train.train(config, path, splits)
    losses = {int(row["step"]): float(row["val_loss"]) for row in read_metrics(tmp_path)}
    best = min(losses, key=losses.get)
    assert best != 8
    summary = evaluate.evaluate(config, path, splits, ["validation"])["validation"]
    assert summary["step"] == best == checkpoint.selected_step("best", path)
    assert checkpoint.selected_step("last", path) == 8
    # Means of float32, summed in another order.
    np.testing.assert_allclose(summary["scores"]["loss"], losses[best], rtol=1e-5)
