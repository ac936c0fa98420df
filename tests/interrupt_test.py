"""Signals as a flag."""

import os
import signal

import pytest

from jaxlung import interrupt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_sets_the_flag_and_the_handler_before_comes_back(number):
    before = signal.getsignal(number)
    with interrupt.catch() as stop:
        assert not stop.received
        os.kill(os.getpid(), number)
        assert stop.received == number.name
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts_at_once():
    with interrupt.catch():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
