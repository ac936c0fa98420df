"""Both ends of a pipe: a worker process that answers lines of JSON, and the command that asks."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[..., dict[str, Any]]
LONGEST_REASON = 160  # characters of an error in a table
SECONDS_TO_END = 15


class Refused(Exception):
    """The error of a worker that could not do what it was asked; the message is one line."""


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answers requests on stdin until it ends: `{"do": name, ...}` calls `handlers[name](...)`.

    An exception is answered by `{"error": reason}`. Anything that other code prints goes to stderr.
    """
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
        self._process.stdin.close()  # Ends `serve`.
        try:
            self._process.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Sends a request and returns the answer.

        Raises:
            Refused: the worker failed or has ended.
        """
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise Refused(f"{self._module} ended with code {code}; see above.")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer
