"""Both ends of a pipe: a worker process that answers lines of JSON, and the command that asks."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import isolated

Handler = Callable[..., dict[str, Any]]
LONGEST_REASON = 160  # characters of an error in a table
SECONDS_TO_END = 15


class Refused(Exception):
    """The error of a worker that could not do what it was asked; the message is one line."""


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answers requests on stdin until it ends: `{"do": name, ...}` calls `handlers[name](...)`.

    An exception is answered by `{"error": reason}`. Anything that other code prints goes to stderr.
    """
    isolated.end_with_parent()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception as error:  # Any failure, such as too little memory, is a row.
            traceback.print_exc()
            answer = {"error": reason(error)}
        print(json.dumps(answer), file=answers, flush=True)


def reason(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:LONGEST_REASON]


class Worker:
    """A process that runs `python -m module` and answers one request at a time.

    Args:
        python: interpreter of the process.
        module: module that calls `serve`.
        environ: environment of the process.
    """

    def __init__(self, python: str, module: str, environ: Mapping[str, str]) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environ),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # Ends `serve`.
        try:
            self._process.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self.__exit__()

    def ask(
        self, do: str, limit_s: float = threading.TIMEOUT_MAX, **request: Any
    ) -> dict[str, Any]:
        """Sends a request and returns the answer.

        Args:
            do: name of the handler.
            limit_s: seconds after which the process is killed.
            **request: arguments of the handler.

        Raises:
            Refused: the worker failed, took too long or has ended.
        """
        timer = threading.Timer(limit_s, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            was_late = not timer.is_alive()
            timer.cancel()
        if not line:
            code = self._process.wait()
            why = f"was killed after {limit_s:.0f} s" if was_late else f"ended with code {code}"
            raise Refused(f"{self._module} {why} in {do!r}; see above.")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer


class Side:
    """A worker that is started when it is asked first, and again after a failure.

    Args:
        python: interpreter.
        module: module of the worker.
        limit: returns the seconds that a request may take, from its name.
    """

    def __init__(self, python: str, module: str, limit: Callable[[str], float]) -> None:
        self._python, self._module, self._limit = python, module, limit
        self._worker: Worker | None = None

    def start(self) -> None:
        """Starts the process, if it doesn't run, so that it imports what it needs."""
        if self._worker is None:
            # Otherwise JAX would take most of the memory before PyTorch starts.
            environ = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            self._worker = Worker(self._python, self._module, environ)

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """See `Worker.ask`. A worker that fails is ended, which frees its memory."""
        self.start()
        assert self._worker is not None
        try:
            return self._worker.ask(do, self._limit(do), **request)
        except Refused:
            self.close()
            raise

    def run(self, steps: int) -> dict[str, Any]:
        """Runs steps of what was made."""
        return self.ask("run", steps=steps)

    def close(self) -> None:
        """Kills the process."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
