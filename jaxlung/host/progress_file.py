"""A file that says how far a run is, for those who watch it from other processes.

The run calls `tell`, which costs microseconds; a thread writes the file. It does so at most once a
second, and at least every ten seconds as a sign that the process lives.
"""

import contextlib
import dataclasses
import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath

from jaxlung.host import console, files

FILE = "progress.json"
SECONDS_BETWEEN_WRITES = 1.0
SECONDS_BETWEEN_SIGNS = 10.0  # while there is nothing new
# Phases after which the process works no more: "stopped" by a signal, "paused" after an epoch that
# isn't the last, to go on later.
ENDED = ("finished", "stopped", "paused", "failed")
_MOST_REASON = 300  # characters


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run: the content of `progress.json`.

    Attributes:
        phase: "reading data", "compiling", "training", "evaluating", "reporting" or one of `ENDED`.
        detail: How far the phase is, such as "evaluating test: 3 of 40 volumes"; after "failed" the
            reason.
        epoch: Number of finished epochs.
        epochs: Number of epochs of the whole run, if no rule stops it earlier.
        step: Number of finished steps whose losses were fetched.
        steps: Number of steps of the whole run.
        loss: Mean training loss of the epoch so far; None before the first.
        score_name: Name of the validation score.
        score: Validation score after the last epoch; None before that.
        images_per_s: Images, or patches of volumes, per second of training; None if unknown.
        seconds_left: Time until training ends; None if unknown.
        where: The machine and its devices, such as "node3, gpu 0,1".
        written: Seconds since 1970 on that machine's clock.
    """

    phase: str = ""
    detail: str = ""
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    score_name: str = ""
    score: float | None = None
    images_per_s: float | None = None
    seconds_left: float | None = None
    where: str = ""
    written: float = 0.0


class _Writer:
    """Writes what it was told last into a file."""

    def __init__(self, path: epath.Path, **first: Any) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._now = Progress(**first)
        self._told_left = self._last_write = time.monotonic()
        self._is_new = self._can_write = True
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._write()
        self._thread.start()

    def tell(self, **changes: Any) -> None:
        with self._lock:
            self._now = dataclasses.replace(self._now, **changes)
            self._is_new = True
            if "seconds_left" in changes:
                self._told_left = time.monotonic()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_WRITES):
            if self._is_new or time.monotonic() - self._last_write >= SECONDS_BETWEEN_SIGNS:
                self._write()

    def _write(self) -> None:
        """Writes the file; a full disk is left to those who have something important to write."""
        with self._lock:
            now, self._is_new = self._now, False
            age = time.monotonic() - self._told_left
        self._last_write = time.monotonic()
        if now.seconds_left is not None:
            now = dataclasses.replace(now, seconds_left=max(now.seconds_left - age, 0.0))
        content = dataclasses.asdict(dataclasses.replace(now, written=time.time()))
        values = {name: _to_json(value) for name, value in content.items()}
        try:
            files.write_text(self._path, json.dumps(values, indent=2) + "\n")
        except OSError as error:
            if self._can_write:
                logging.warning("%s: can't be written (%s)", self._path, error.strerror)
            self._can_write = False


_writer: _Writer | None = None


@contextlib.contextmanager
def writing(path: epath.Path, **first: Any) -> Iterator[None]:
    """Writes what `tell` is told in the body into a file, from now until the body ends.

    Args:
        path: The file.
        **first: The first fields of `Progress`.
    """
    global _writer
    before, _writer = _writer, _Writer(path, **first)
    try:
        yield
    except Exception as error:
        reason = console.on_one_line(error) or type(error).__name__
        tell(phase="failed", detail=reason[:_MOST_REASON])
        raise
    except BaseException:
        tell(phase="stopped", detail="")
        raise
    finally:
        _writer.close()
        _writer = before


def tell(**changes: Any) -> None:
    """Changes fields of the `Progress` that is written; does nothing outside of `writing`."""
    if _writer:
        _writer.tell(**changes)


def load(path: epath.Path) -> Progress | None:
    """Reads the file of a run; returns None if there is none or it isn't readable."""
    known = {field.name: field.default for field in dataclasses.fields(Progress)}
    try:
        content = json.loads(path.read_text())
        found = {name: content[name] for name in known.keys() & content.keys()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    fits = all(_fits(value, known[name]) for name, value in found.items())
    return Progress(**found) if fits else None


def _to_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fits(value: Any, default: Any) -> bool:
    """Returns True if a value read from a file has the type of a field with this default."""
    if default is None or isinstance(default, float):
        return isinstance(value, int | float) or value is default
    return type(value) is type(default)
