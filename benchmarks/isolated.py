"""Runs measurements in processes of their own.

Each has the device, its memory and its compiled programs to itself. One that hangs or crashes loses
only itself. The waiting process never starts JAX, which would take most of a GPU's memory.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

LONGEST_REASON = 160  # characters
PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Runs a module like `python -m`, after `end_with_parent`.
START = (
    "import runpy, sys; from benchmarks import isolated; isolated.end_with_parent(); "
    "sys.argv.pop(0); runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


class FailedError(Exception):
    """A measurement that failed; the message is a reason that fits into a table."""


def call(
    function: Callable[..., Any],
    *,
    limit_s: float,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Calls a module's function in a new process.

    Args:
        function: function of a module; takes and returns values that JSON can hold.
        limit_s: seconds after which the process is stopped.
        environ: environment variables to add to those of this process.
        **arguments: arguments of the function.

    Raises:
        FailedError: the function raised an exception, crashed or took too long.
    """
    name = f"{function.__module__}:{function.__name__}"
    text = run("benchmarks.isolated_call", [name, json.dumps(arguments)], limit_s, environ)
    answer = json.loads(text.splitlines()[-1])
    if "error" in answer:
        raise FailedError(answer["error"])
    return answer["result"]


def run(
    module: str,
    arguments: Sequence[str],
    limit_s: float,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Returns the stdout of `lines`, as one text."""
    return "".join(lines(module, arguments, limit_s, environ))


def lines(
    module: str,
    arguments: Sequence[str],
    limit_s: float,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[str]:
    """Yields the lines that `python -m module arguments` prints, as it prints them.

    Its stderr is passed on when it ends.

    Raises:
        FailedError: the command failed or took longer than `limit_s` seconds.
    """
    late = threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            [python, "-c", START, module, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | dict(environ or {}),
            start_new_session=True,  # So that processes that it starts can be stopped too.
        )

        def stop() -> None:
            late.set()
            _stop(process)

        timer = threading.Timer(max(limit_s, 0.1), stop)
        timer.start()
        try:
            assert process.stdout is not None
            yield from process.stdout
            process.wait()
        finally:
            timer.cancel()
            _stop(process)
            process.stdout.close()
            log.seek(0)
            told = log.read()
            sys.stderr.write(told)
    if late.is_set():
        raise FailedError(f"stopped after {limit_s:.0f} s")
    if process.returncode:
        reason = "".join(told.strip().splitlines()[-1:])[:LONGEST_REASON]
        raise FailedError(f"{module} ended with code {process.returncode}: {reason}")


def end_with_parent() -> None:
    """Makes Linux kill this process when its parent is killed, so that it leaves the device."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[str]) -> None:
    """Kills a process that still runs, and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
