"""The settings of a measurement: platform, thoroughness, time limit."""

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
        quick: measure tiny cases, each suite in under a minute; the figures mean nothing.
        seconds: approximate time for each measurement.
        end: time by `time.monotonic()` after which no measurement starts.
        torch_python: interpreter with PyTorch, for the peers; "": this one.
        only: of the programs for other devices, those to compile, as "TARGET/CASE/BATCH/PROGRAM",
            whose last parts may be left out; (): all.
    """

    platform: str
    quick: bool
    seconds: float
    end: float
    torch_python: str = ""
    only: tuple[str, ...] = ()

    def choose(self, quick: T, cpu: T, accelerator: T) -> T:
        """Returns the argument that fits the plan and the platform."""
        if self.quick:
            return quick
        return cpu if self.platform == "cpu" else accelerator

    def left(self) -> float:
        """Returns the seconds that are left.

        Raises:
            isolated.FailedError: no time is left.
        """
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise isolated.FailedError("no time was left")
        return seconds
