"""Signals as a flag."""

import os
import signal

import pytest

from jaxlung.parallel import interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_sets_the_flag_and_the_handler_before_comes_back(number):
    before = signal.getsignal(number)
    with interrupt.catch() as stop:
        assert not stop.received
        os.kill(os.getpid(), number)
        assert stop.received == number.name
    assert signal.getsignal(number) is before


@pytest.fixture
def exit_codes(monkeypatch):
    codes = []
    monkeypatch.setattr(interrupt.os, "_exit", codes.append)
    return codes


def test_a_second_signal_exits_at_once(exit_codes):
    with interrupt.catch():
        os.kill(os.getpid(), signal.SIGINT)
        assert exit_codes == []
        os.kill(os.getpid(), signal.SIGINT)
    assert exit_codes == [130]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_elsewhere_a_signal_exits_at_once_and_half_made_files_are_removed(exit_codes, number):
    with interrupt.stop_at_once():
        with pytest.raises(KeyboardInterrupt), interrupt.clean_up():
            os.kill(os.getpid(), number)
        assert exit_codes == []
        os.kill(os.getpid(), number)
    assert exit_codes == [130]


def test_a_process_that_ignores_repeats_saves_however_often_it_is_told_to_stop(
    exit_codes, monkeypatch
):
    monkeypatch.setattr(interrupt, "_heeds_repeats", True)  # Restored afterwards.
    interrupt.ignore_repeats()
    with interrupt.catch() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert stop.received == "SIGTERM"
    assert exit_codes == []
