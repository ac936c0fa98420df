"""How a suite is to be measured: on what, how thoroughly, and until when."""

import dataclasses
import time
from typing import TypeVar

from benchmarks import isolated

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of all suites.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        quick: tiny cases, each suite in under a minute: figures mean nothing.
        seconds: that each thing is measured, about.
        end: `time.monotonic()` after which nothing new is begun.
        torch_python: an interpreter with PyTorch, for the peers; "" is this one.
    """

    platform: str
    quick: bool
    seconds: float
    end: float
    torch_python: str = ""

    def choose(self, quick: T, cpu: T, accelerator: T) -> T:
        """What fits the machine."""
        if self.quick:
            return quick
        return cpu if self.platform == "cpu" else accelerator

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            isolated.FailedError: none are.
        """
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise isolated.FailedError("no time was left")
        return seconds
