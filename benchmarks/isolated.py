"""Runs measurements in processes of their own.

Each has the device, its memory and its compiled programs to itself. One that hangs or crashes loses
only itself. The waiting process never starts JAX, which would take most of a GPU's memory.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LONGEST_REASON = 160  # characters


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
    text = run("benchmarks.isolated", [name, json.dumps(arguments)], limit_s, environ)
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
    """Returns the stdout of `python -m module arguments`; passes its stderr on when it ends.

    Raises:
        FailedError: the command failed or took longer than `limit_s` seconds.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | dict(environ or {}),
            start_new_session=True,  # So that processes that it starts can be stopped too.
        )
        try:
            text, _ = process.communicate(timeout=max(limit_s, 0.1))
        except subprocess.TimeoutExpired:
            raise FailedError(f"stopped after {limit_s:.0f} s") from None
        finally:
            _stop(process)
            log.seek(0)
            told = log.read()
            sys.stderr.write(told)
    if process.returncode:
        reason = "".join(told.strip().splitlines()[-1:])[:LONGEST_REASON]
        raise FailedError(f"{module} ended with code {process.returncode}: {reason}")
    return text


def _stop(process: subprocess.Popen[str]) -> None:
    """Kills a process that still runs, and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def main(name: str, arguments: str) -> None:
    """Calls `module:function` with arguments in JSON; prints the result as the last line."""
    module, _, function = name.partition(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), function)(**_read(arguments))}
    except Exception as error:  # Any error is a row of the table.
        reason = next(iter(str(error).splitlines()), "")
        answer = {"error": f"{type(error).__name__}: {reason}"[:LONGEST_REASON]}
    print("\n" + json.dumps(answer), flush=True)


def _read(arguments: str) -> dict[str, Any]:
    return {name: _freeze(value) for name, value in json.loads(arguments).items()}


def _freeze(value: Any) -> Any:
    """Returns a value with tuples in place of lists, as configs have them."""
    if isinstance(value, dict):
        return {name: _freeze(each) for name, each in value.items()}
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main(*sys.argv[1:])
