"""Plateaus and early stopping by hand and against Keras's rules written as Keras has them."""

import dataclasses
import json

import ml_collections as mlc
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.training import control

PAPER_002 = dict(
    plateau_patience=3,
    plateau_factor=0.5,
    plateau_min_delta=1e-4,
    plateau_cooldown=2,
    min_learning_rate=1e-6,
    stop_patience=15,
    stop_min_delta=0.0,
)


def make(**changes):
    return control.Settings(**PAPER_002 | changes)


def run(settings, losses, learning_rate=1.0, stored=False):
    """The states after each epoch; `stored`: through JSON text between any two."""
    state = control.start(learning_rate)
    states = []
    for loss in losses:
        if stored:
            text = json.dumps(control.to_json(state), allow_nan=False)
            state = control.from_json(json.loads(text))
        state = control.after_epoch(settings, state, loss)
        states.append(state)
    return states


class Keras:
    """Keras 3's two callbacks as one mutable object, `patience` 0 leaving one out."""

    def __init__(self, settings, learning_rate):
        self.settings, self.lr = settings, learning_rate
        self.plateau_best = self.stop_best = np.inf
        self.plateau_wait = self.stop_wait = self.cooldown_counter = 0
        self.stop_training = False

    def in_cooldown(self):
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch, current):
        if self.settings.plateau_patience:
            self.reduce_lr_on_plateau(current)
        if self.settings.stop_patience:
            self.early_stopping(epoch, current)

    def reduce_lr_on_plateau(self, current):
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.plateau_wait = 0
        if current < self.plateau_best - self.settings.plateau_min_delta:
            self.plateau_best = current
            self.plateau_wait = 0
        elif not self.in_cooldown():
            self.plateau_wait += 1
            out_of_patience = self.plateau_wait >= self.settings.plateau_patience
            if out_of_patience and self.lr > self.settings.min_learning_rate:
                new_lr = self.lr * self.settings.plateau_factor
                self.lr = max(new_lr, self.settings.min_learning_rate)
                self.cooldown_counter = self.settings.plateau_cooldown
                self.plateau_wait = 0

    def early_stopping(self, epoch, current):
        self.stop_wait += 1
        if current + self.settings.stop_min_delta < self.stop_best:
            self.stop_best = current
            self.stop_wait = 0
            return
        if self.stop_wait >= self.settings.stop_patience and epoch > 0:
            self.stop_training = True


def draw_settings(np_rng):
    return control.Settings(
        plateau_patience=int(np_rng.integers(0, 4)),
        plateau_factor=float(np_rng.choice([0.1, 0.5])),
        plateau_min_delta=float(np_rng.choice([0.0, 0.1])),
        plateau_cooldown=int(np_rng.integers(0, 4)),
        min_learning_rate=float(np_rng.choice([0.0, 0.02])),
        stop_patience=int(np_rng.integers(0, 12)),
        stop_min_delta=float(np_rng.choice([0.0, 0.1])),
    )


class AfterEpochTest(parameterized.TestCase):
    @parameterized.parameters(range(60))
    def test_decides_as_keras(self, seed):
        np_rng = np.random.default_rng(seed)
        settings = draw_settings(np_rng)
        # One decimal: ties, and differences of exactly min_delta but for rounding.
        losses = np.round(np.exp(-np.arange(40) / 15) + np_rng.normal(0, 0.15, 40), 1).tolist()
        keras = Keras(settings, 1.0)
        for epoch, (loss, state) in enumerate(zip(losses, run(settings, losses), strict=True)):
            keras.on_epoch_end(epoch, loss)
            assert state.learning_rate == keras.lr
            assert state.stopped == keras.stop_training
            counts = state.plateau_wait, state.plateau_cooldown, state.stop_wait
            assert counts == (keras.plateau_wait, keras.cooldown_counter, keras.stop_wait)

    def test_a_plateau_by_hand(self):
        # Patience 3, cooldown 2: three bad epochs halve the rate; of the next ones the first
        # still cools down, then three count.
        rates = [s.learning_rate for s in run(make(), [5.0] * 9)]
        assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]

    def test_an_improvement_starts_the_wait_again_and_a_tiny_one_does_not(self):
        rates = [s.learning_rate for s in run(make(), [5, 5, 5, 4.99, 5, 5, 4.98995, 4])]
        assert rates == [1, 1, 1, 1, 1, 1, 0.5, 0.5]

    def test_the_rate_stops_at_its_floor(self):
        settings = make(plateau_patience=1, plateau_cooldown=0, min_learning_rate=0.3)
        rates = [s.learning_rate for s in run(settings, [5.0] * 5)]
        assert rates == [1, 0.5, 0.3, 0.3, 0.3]
        low = run(settings, [5.0] * 3, learning_rate=0.1)[-1]
        assert low.learning_rate == 0.1  # Never raised to the floor.

    @parameterized.parameters(
        (1, [5, 4, 4.5], 3),
        (1, [5, 5], 2),  # No fall is enough.
        (2, [5, 6, 4, 5, 4], 5),  # Equal to the best is no improvement.
        (3, [5, 6, 7, 6.5], 4),
    )
    def test_stopping_by_hand(self, patience, losses, epochs):
        states = run(make(stop_patience=patience), losses)
        assert [s.stopped for s in states] == [False] * (epochs - 1) + [True]

    def test_the_end_is_final(self):
        assert run(make(stop_patience=1), [5, 6, 1, 2])[-1].stopped

    def test_patience_0_is_never(self):
        settings = make(plateau_patience=0, stop_patience=0)
        assert run(settings, [5.0] * 50)[-1] == control.start(1.0)

    def test_the_two_rules_do_not_see_each_other(self):
        losses = np.random.default_rng(0).random(30).tolist()
        both = run(make(), losses)
        plateau, stop = run(make(stop_patience=0), losses), run(make(plateau_patience=0), losses)
        assert [s.learning_rate for s in both] == [s.learning_rate for s in plateau]
        assert [s.stopped for s in both] == [s.stopped for s in stop]

    def test_a_state_is_not_changed(self):
        state = run(make(), [5.0, 5.0])[-1]
        before = dataclasses.asdict(state)
        control.after_epoch(make(), state, 9.0)
        assert dataclasses.asdict(state) == before


class JsonTest(parameterized.TestCase):
    @parameterized.parameters(range(5))
    def test_stopping_after_any_epoch_and_resuming_decides_the_same(self, seed):
        np_rng = np.random.default_rng(seed)
        settings = draw_settings(np_rng)
        losses = np_rng.random(40, np.float32)  # As a device gives them; not JSON.
        assert run(settings, losses, stored=True) == run(settings, losses)

    def test_other_fields_are_an_error(self):
        values = control.to_json(control.start(1.0))
        with pytest.raises(ValueError, match=r"got fields learning_rate, .*plateau_best"):
            control.from_json({"learning_rate": 1.0})
        with pytest.raises(ValueError, match="got fields epoch, "):
            control.from_json(values | {"epoch": 3})


class SettingsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("plateau_patience", -1, "whole number, 0 or more"),
        ("plateau_patience", 2.5, "whole number"),
        ("plateau_cooldown", True, "whole number"),
        ("stop_patience", None, "whole number"),
        ("plateau_factor", 1.0, "between 0 and 1"),
        ("plateau_factor", 0.0, "between 0 and 1"),
        ("plateau_factor", "half", "between 0 and 1"),
        ("plateau_min_delta", -1e-4, "a number, 0 or more"),
        ("stop_min_delta", float("nan"), "a number, 0 or more"),
        ("min_learning_rate", float("inf"), "a number, 0 or more"),
    )
    def test_a_bad_field_is_named(self, field, value, wanted):
        with pytest.raises(ValueError, match=f"^control.{field}: got .*, want .*{wanted}"):
            make(**{field: value})

    def test_a_config_section_is_the_arguments(self):
        section = mlc.ConfigDict(PAPER_002 | {"min_learning_rate": 0})
        assert control.Settings(**section) == make(min_learning_rate=0)
