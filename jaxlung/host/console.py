"""The terminal: our own log lines, one sentence per error, no warnings of other libraries."""

import functools
import logging as std_logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from absl import logging


class SupportsWrite(Protocol):
    """A stream for the log."""

    def write(self, text: str, /) -> object:
        """Writes a text."""


class _Formatter(std_logging.Formatter):
    """The format of log lines: "10:42:07 message", with the level's name from WARNING up."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._prefix = prefix

    def format(self, entry: std_logging.LogRecord) -> str:
        level = f"{entry.levelname}: " if entry.levelno >= std_logging.WARNING else ""
        return f"{self.formatTime(entry, '%H:%M:%S')} {self._prefix}{level}{entry.getMessage()}"


def quiet_libraries() -> None:
    """Sends our own log lines to stderr and silences other libraries."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own C++ log
    warnings.simplefilter("ignore")
    handler = logging.get_absl_handler()
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler.setFormatter(_Formatter())
    handler.addFilter(_is_ours)


def divert_log(stream: SupportsWrite) -> Callable[[], None]:
    """Writes log lines to `stream` instead of stderr; returns a function that ends this.

    absl's handler chooses stderr anew for every line, so it is replaced as a whole.
    """
    ours, theirs = std_logging.StreamHandler(stream), logging.get_absl_handler()
    ours.setFormatter(theirs.python_handler.formatter)
    for each in theirs.filters:
        ours.addFilter(each)
    is_used = theirs in std_logging.root.handlers
    std_logging.root.removeHandler(theirs)
    std_logging.root.addHandler(ours)

    def end() -> None:
        std_logging.root.removeHandler(ours)
        if is_used:
            std_logging.root.addHandler(theirs)

    return end


def quiet_process(number: int) -> None:
    """Logs warnings and errors alone, with the process's number: process 0 logs the rest."""
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(_Formatter(prefix=f"process {number}: "))


def quiet_late_writes() -> None:
    """Drops the tracebacks of writes that end after a save failed.

    The failure itself is reported. TensorStore's threads can't raise these errors anywhere, as
    Orbax has closed its event loop by then.
    """
    sys.unraisablehook = functools.partial(_pass_on, sys.unraisablehook)


def _pass_on(hook: Callable[[Any], None], unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


def _is_ours(entry: std_logging.LogRecord) -> bool:
    """Returns True if a log line comes from this project's files."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    ours = [os.path.join(folder, name, "") for name in ("jaxlung", "tfds_builders")]
    return entry.pathname.startswith(tuple(ours))


def complain(error: Exception, code: int, *, debug: bool) -> int:
    """Writes an error to stderr: one sentence, and with `debug` the traceback before it.

    Returns:
        `code`, the process's exit code.
    """
    if debug:
        traceback.print_exception(error)
    sentence = " ".join(str(error).split()) or type(error).__name__
    hint = " (--debug shows the traceback.)" if code == 1 and not debug else ""
    sys.stderr.write(f"jaxlung: error: {sentence}{hint}\n")
    return code


def on_one_line(text: object) -> str:
    """Returns a text, such as a path of any bytes, as one line that any terminal can show."""
    return " ".join("".join(x if x.isprintable() else " " for x in str(text)).split())
