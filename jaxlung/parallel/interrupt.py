"""SIGTERM and Ctrl-C: four ways to stop without losing work."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from absl import logging

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CODE = 130  # A shell reports Ctrl-C with it.

_heeds_repeats = True


class Interrupt:
    """The signal that asked the process to stop.

    Attributes:
        received: name of the signal; "" until one comes.
    """

    def __init__(self) -> None:
        self.received = ""


def ignore_repeats() -> None:
    """Makes `catch` ignore all signals but the first, for a process that another one may kill.

    A machine that shuts down, or Slurm, sends SIGTERM to a scheduler and to its processes, which
    then get it from the scheduler as well.
    """
    global _heeds_repeats
    _heeds_repeats = False


@contextlib.contextmanager
def catch() -> Iterator[Interrupt]:
    """Catches signals for a loop that saves: the first sets a flag, the second exits at once."""
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if not interrupt.received:
            interrupt.received = signal.Signals(number).name
            again = "; send it again to stop at once" if _heeds_repeats else ""
            logging.info("%s: saving, then stopping%s", interrupt.received, again)
        elif _heeds_repeats:
            exit_at_once(number, frame)

    with _handlers(handle):
        yield interrupt


@contextlib.contextmanager
def collect() -> Iterator[list[str]]:
    """Collects the names of signals, for a loop that passes them on to other processes."""
    names: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        names.append(signal.Signals(number).name)

    with _handlers(note):
        yield names


@contextlib.contextmanager
def clean_up() -> Iterator[None]:
    """Turns signals into KeyboardInterrupt, so that half-written files are removed."""
    with _handlers(signal.default_int_handler):
        yield


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """Ends the process when a signal comes.

    It doesn't raise KeyboardInterrupt, which would be lost in a callback of JAX, and would crash
    XLA while it compiles.
    """
    with _handlers(exit_at_once):
        yield


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Logs the stop and ends the process; files on disk are whole."""
    del number, frame
    logging.info("stopped; run the same command to resume")
    logging.flush()
    os._exit(EXIT_CODE)


@contextlib.contextmanager
def _handlers(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
