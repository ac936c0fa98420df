"""Watches the runs of a study by the files in their folders, whatever machine they are on."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from etils import epath

from jaxlung.config import run_files
from jaxlung.host import progress, progress_file

# A run gives a sign every 10 seconds; a network file system may hold it back for as long again.
SILENT_AFTER = 45.0  # seconds
# Phase at the end of a process -> kind of the run.
ENDS = {"finished": "finished", "stopped": "stopped", "paused": "waiting", "failed": "failed"}


@dataclasses.dataclass(frozen=True)
class State:
    """The state of one run.

    Attributes:
        name: Name of the run.
        kind: "waiting", "running", "silent" (its process is gone, or its machine doesn't answer),
            "stopped", "stopped early" (by a sweep), "failed" or "finished".
        text: The state in words, with the phase of a running run and the reason of a failure.
        found: How far it is, or was.
    """

    name: str
    kind: str
    text: str
    found: progress_file.Progress


class Watch:
    """Watches one run, and tells a run that lives from the file of one that died.

    Clocks of machines differ. What counts is that the file changes while we watch it; only when we
    begin to watch, its time is compared with our clock.

    Args:
        path: Folder of the run.
        clock: Seconds that never run backwards.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        path: epath.Path,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock, self._wall = clock, wall
        self._first = self._last = self._before = self._load()
        self._place = ""
        # The clock's time of the last sign of life.
        self._sign = clock() - max(wall() - self._first.written, 0.0)

    def _load(self) -> progress_file.Progress:
        found = progress_file.load(self._path / progress_file.FILE)
        return found or progress_file.Progress()

    def look(self, failure: str = "", place: str = "") -> State:
        """Returns the run's state now.

        Args:
            failure: Why a process failed that this command started; "" if it didn't.
            place: Where this command has started the run; "" if it hasn't.
        """
        found = self._load()
        if found != self._last:
            self._last, self._sign = found, self._clock()
        if place != self._place:
            self._place, self._before = place, found
        if place and found == self._before:
            # Its process has not come to say anything. What is in the file was said by another.
            found = dataclasses.replace(
                found,
                phase="starting",
                detail="",
                where=place,
                images_per_s=None,
                seconds_left=None,
            )
            return State(self._path.name, "running", "starting", found)
        kind, text = self._judge(found, failure)
        return State(self._path.name, kind, text, found)

    def _judge(self, found: progress_file.Progress, failure: str) -> tuple[str, str]:
        if (self._path / run_files.FINISHED).exists():
            return "finished", "finished"
        if failure:
            return "failed", f"failed: {failure}"
        if not found.phase or (found.phase in progress_file.ENDED and found == self._first):
            return "waiting", "waiting"  # How an earlier command ended doesn't matter any more.
        if found.phase in progress_file.ENDED:
            reason = f": {found.detail}" if found.detail else ""
            return ENDS[found.phase], f"{found.phase}{reason}"
        silence = self._clock() - self._sign
        if silence >= SILENT_AFTER:
            return "silent", f"no sign of life for {progress.duration(silence)}"
        return "running", found.detail or found.phase


def count(states: Sequence[State]) -> dict[str, int]:
    """Returns how many runs are of each kind."""
    kinds = [state.kind for state in states]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def estimate_seconds_left(states: Sequence[State]) -> float | None:
    """Returns the time until all runs are trained, if as many as now run at once; None if unknown.

    A run that waits is taken to last as long as those that run, in the mean. Evaluation isn't in
    it.
    """
    running = [state.found for state in states if state.kind == "running"]
    left = [found.seconds_left or 0.0 for found in running]
    whole = [
        found.seconds_left / (1 - found.step / found.steps)
        for found in running
        if found.seconds_left is not None and found.step < found.steps
    ]
    if not whole:
        return None
    kinds = count(states)
    num_waiting = sum(kinds.get(kind, 0) for kind in ("waiting", "silent", "stopped"))
    ahead = sum(left) + num_waiting * sum(whole) / len(whole)
    return max(*left, ahead / len(running))
