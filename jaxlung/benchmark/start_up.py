"""The time from the start of a process to its first training step, in laps."""

import os
import pathlib
import time

_IMPORTED = time.monotonic()  # Used as the start of the process where the system doesn't tell it.


class Clock:
    """A stopwatch for the phases of start-up.

    Attributes:
        seconds: name -> seconds of each lap. "process" is the time before this object was made:
            Python, imports, flags and whatever else the process did.
    """

    def __init__(self) -> None:
        self.seconds = {"process": process_age()}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Ends a lap and starts the next one."""
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now


def process_age() -> float:
    """Returns the seconds since this process began; without /proc, since this file was imported."""
    stat = pathlib.Path("/proc/self/stat")
    if not stat.exists():
        return time.monotonic() - _IMPORTED
    # Field 22 of proc(5), counted from after the name, which may contain spaces.
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
