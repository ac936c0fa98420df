"""How long a process takes to its first step, and what for."""

import os
import pathlib
import time

_IMPORTED = time.monotonic()  # Stands for the process's start where the system doesn't tell it.


class Clock:
    """Seconds since the process began, in laps.

    Attributes:
        seconds: of each lap; "process" is what went by before this object was made: Python,
            imports, flags, and whatever else the process did.
    """

    def __init__(self) -> None:
        self.seconds = {"process": process_age()}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Ends a lap."""
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now


def process_age() -> float:
    """Seconds since this process began; where there is no /proc, since this file was imported."""
    stat = pathlib.Path("/proc/self/stat")
    if not stat.exists():
        return time.monotonic() - _IMPORTED
    # Field 22, counted after the name, which may hold spaces: see proc(5).
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
