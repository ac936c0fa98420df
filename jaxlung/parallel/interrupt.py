"""SIGTERM and Ctrl-C: three ways to stop, each where it loses nothing."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from absl import logging

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CODE = 130  # What a shell gives for Ctrl-C.


class Interrupt:
    """Set when the process was asked to stop.

    Attributes:
        received: name of the signal, or "" while there was none.
    """

    def __init__(self) -> None:
        self.received = ""


@contextlib.contextmanager
def catch() -> Iterator[Interrupt]:
    """In a loop that saves: the first signal sets a flag for it to see, a second one exits."""
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.received:
            exit_at_once(number, frame)
        interrupt.received = signal.Signals(number).name
        logging.info("%s: saving, then stopping; once more to stop at once", interrupt.received)

    with _handlers(handle):
        yield interrupt


@contextlib.contextmanager
def clean_up() -> Iterator[None]:
    """Where files are half-made: a signal raises KeyboardInterrupt, so that they are removed."""
    with _handlers(signal.default_int_handler):
        yield


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """Elsewhere: a signal ends the process.

    No KeyboardInterrupt, which is lost if it comes in a callback of JAX's and crashes XLA if it
    comes while a program is compiled.
    """
    with _handlers(exit_at_once):
        yield


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Says so and ends the process; what is on disk is whole."""
    del number, frame
    logging.info("stopped; the same command goes on")
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
