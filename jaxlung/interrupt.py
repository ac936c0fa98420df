"""SIGTERM and Ctrl-C as a flag that a loop looks at, so that it can save before it stops."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from absl import logging


class Interrupt:
    """Set when the process was asked to stop.

    Attributes:
        received: name of the signal, or "" while there was none.
    """

    def __init__(self) -> None:
        self.received = ""


@contextlib.contextmanager
def catch() -> Iterator[Interrupt]:
    """Within the block, the first SIGTERM or SIGINT sets the flag; a second Ctrl-C interrupts."""
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if interrupt.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupt.received = signal.Signals(number).name
        logging.info("%s: saving, then stopping", interrupt.received)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
