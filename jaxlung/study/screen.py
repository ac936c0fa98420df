"""Shows the runs of a study: a table drawn in place on a terminal, plain log lines elsewhere."""

import dataclasses
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from absl import logging

from jaxlung.host import console
from jaxlung.study import progress_table, schedule, watch

SECONDS_BETWEEN_DRAWINGS = 1.0
SECONDS_BETWEEN_LINES = 60.0  # of one run without a new phase, where there is no terminal
LOGGED = ("starting", "finished", "failed")  # by the scheduler
_USUAL_SIZE = os.terminal_size((80, 24))  # of a terminal that doesn't tell


class Screen:
    """Shows how far all runs of a study are. Call `update` often, and `close` at the end.

    Args:
        stream: The terminal, or another stream; None for stderr.
        clock: Seconds that never run backwards.
        wall: Seconds since 1970.
        size: Returns columns and lines of the terminal; None to ask it.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        size: Callable[[], os.terminal_size] | None = None,
    ) -> None:
        stream = stream or sys.stderr
        self._clock, self._wall = clock, wall
        self._watches: dict[str, watch.Watch] = {}
        self._due = clock()
        self._statuses: Sequence[schedule.Status] = ()
        self._view: _Drawing | _Lines = _Lines(clock)
        if stream.isatty() and os.environ.get("TERM") != "dumb":
            self._view = _Drawing(stream, size or functools.partial(ask_size, stream))

    def update(self, statuses: Sequence[schedule.Status]) -> None:
        """Shows what is new, at most once a second.

        Args:
            statuses: What this command knows of all runs, in their order.
        """
        self._statuses = statuses
        if self._clock() >= self._due:
            self._due = self._clock() + SECONDS_BETWEEN_DRAWINGS
            self._view.show(self._look())

    def close(self) -> None:
        """Shows how all runs ended, and gives the terminal back."""
        if self._statuses:  # There are none if the command failed before the first run.
            self._view.show(self._look())
        self._view.close()

    def _look(self) -> list[watch.State]:
        states = []
        for status in self._statuses:
            name, path = status.task.name, status.task.path
            if name not in self._watches:
                self._watches[name] = watch.Watch(path, self._clock, self._wall)
            state = self._watches[name].look(status.reason, status.where)
            if status.state == schedule.STOPPED and state.kind != "finished":
                state = dataclasses.replace(state, kind="stopped", text="stopped")
            elif state.kind == "waiting" and is_out(status, self._statuses):
                text = f"stopped after epoch {state.found.epoch}"
                state = dataclasses.replace(state, kind="stopped early", text=text)
            states.append(state)
        return states


def is_out(status: schedule.Status, statuses: Sequence[schedule.Status]) -> bool:
    """Returns whether a sweep has stopped a run after an epoch, and others went on instead.

    It is so once no other run trains to the same stop, as they are compared then.
    """
    stop = status.task.until_epoch
    if status.state != schedule.FINISHED or stop is None:
        return False
    return not any(x.task.until_epoch == stop and x.state not in schedule.ENDED for x in statuses)


def ask_size(stream: TextIO) -> os.terminal_size:
    """Returns columns and lines of a terminal, as they are now."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _USUAL_SIZE
    return size if size.columns and size.lines else _USUAL_SIZE


class _Drawing:
    """A table that is drawn over itself; the log's lines go above it."""

    def __init__(self, stream: TextIO, size: Callable[[], os.terminal_size]) -> None:
        self._stream, self._size = stream, size
        self._lock = threading.RLock()  # Any thread may log.
        self._drawn: list[str] = []
        self.close = console.divert_log(self)

    def show(self, states: Sequence[watch.State]) -> None:
        size = self._size()
        # The cursor stands below the table, and the last column stays free: some terminals wrap
        # there.
        self._draw(progress_table.draw(states, size.columns - 1, size.lines - 1))

    def write(self, text: str) -> None:
        """Writes whole lines of the log above the table."""
        with self._lock:
            table = self._drawn
            self._draw([])
            self._stream.write(text)
            self._draw(table)

    def flush(self) -> None:
        self._stream.flush()

    def _draw(self, table: list[str]) -> None:
        with self._lock:
            columns = self._size().columns
            # If the terminal was made narrower since, a line takes several rows.
            rows = sum(max(-(-len(line) // columns), 1) for line in self._drawn)
            up = f"\r\x1b[{rows}A" if rows else ""
            body = "".join(f"{line}\x1b[K\n" for line in table)
            self._stream.write(f"{up}{body}\x1b[J")
            self._stream.flush()
            self._drawn = table


class _Lines:
    """A log line for each new phase of a run, and now and then one for a long phase."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, tuple[str, int, float]] = {}  # phase, epoch, time of the last line

    def show(self, states: Sequence[watch.State]) -> None:
        if not self._said:  # What an earlier command did is one line.
            logging.info("%s", progress_table.describe_all(states))
            self._said = {
                state.name: (state.kind, state.found.epoch, self._clock())
                for state in states
                if state.kind in ("waiting", "finished")
            }
        for state in states:
            self._show_one(state, states)

    def _show_one(self, state: watch.State, states: Sequence[watch.State]) -> None:
        phase = state.found.phase if state.kind == "running" else state.kind
        before, epoch, when = self._said.get(state.name, ("", -1, 0.0))
        is_soon = self._clock() - when < SECONDS_BETWEEN_LINES
        if phase == before and (is_soon or epoch == state.found.epoch):
            return
        self._said[state.name] = (phase, state.found.epoch, self._clock())
        if phase not in LOGGED:
            logging.info("%s: %s", state.name, progress_table.describe(state))
        if state.kind in ("finished", "failed"):
            logging.info("%s", progress_table.describe_all(states))

    def close(self) -> None:
        """Does nothing: lines need no end."""
