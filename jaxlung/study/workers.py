"""Processes that each run one run: started, watched and stopped by the scheduler."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from etils import epath

from jaxlung.host import files, folder_lock
from jaxlung.parallel import interrupt
from jaxlung.study import devices, worker

COMMAND = (sys.executable, "-m", "jaxlung.study.worker")
LOG = "log.txt"  # What a run logs, all its starts one after the other.
FAILED = "failed.txt"  # Why the newest start failed; other commands don't try at the same time.
# SIGTERM itself ends a worker that is still importing.
STOPPED_CODES = (worker.STOPPED, interrupt.EXIT_CODE, -signal.SIGTERM)


@dataclasses.dataclass
class Worker:
    """A process that runs one run.

    Attributes:
        process: The process. It stops after saving when its standard input ends, which it does when
            the scheduler dies.
        place: Its devices.
        log: File that it writes to.
        log_start: Size of the log when the process was started.
        started: Time of the start, by `time.monotonic`.
    """

    process: subprocess.Popen[bytes]
    place: devices.Place
    log: epath.Path
    log_start: int
    started: float

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Returns the exit code; None while the process runs."""
        code = self.process.poll()
        if code is not None:
            self._close()
        return code

    def stop(self) -> None:
        """Asks the process to save and stop."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process at once."""
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def explain(self, code: int) -> str:
        """Returns why the process failed, one sentence from its log or about its signal."""
        if code in STOPPED_CODES:
            return "a signal stopped it; it was saved"
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (too little memory?)" if name == "SIGKILL" else ""
            return f"{name} ended it{hint}"
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            lines = file.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        last = said[-1].removeprefix("jaxlung: error: ") if said else f"it exited with {code}"
        return re.sub(r" \(--debug .*\)$", "", last)


def was_killed(reason: str) -> bool:
    """Returns whether a reason from `Worker.explain` is a signal, which says nothing of the run."""
    return reason.startswith(("SIG", "a signal"))


def claim(path: epath.Path) -> IO[str] | None:
    """Locks a run's folder, made if missing, until the file that is returned is closed.

    Returns:
        None if another process holds the lock.
    """
    path.mkdir(parents=True, exist_ok=True)
    file = open(path / "lock", "a")  # noqa: SIM115 - the caller closes it
    if folder_lock.try_lock(file):
        return file
    file.close()
    return None


def start(
    command: Sequence[str],
    path: epath.Path,
    place: devices.Place,
    lock: IO[str],
    until_epoch: int | None,
) -> Worker:
    """Starts a process that runs the run in a folder, and hands it the folder's lock.

    The lock belongs to the open file, so it is held from the claim to the end of the process, with
    no moment between.

    Args:
        command: Starts a worker.
        path: The run's folder, with its `config.json`.
        place: The devices.
        lock: The locked file; may be closed afterwards.
        until_epoch: See `schedule.Task`.
    """
    (path / FAILED).unlink(missing_ok=True)
    locks = [lock.fileno(), *(other.fileno() for other in place.locks)]
    arguments = [str(path), f"--locks={','.join(map(str, locks))}"]
    if place.cores:
        arguments.append(f"--cores={','.join(map(str, place.cores))}")
    if until_epoch is not None:
        arguments.append(f"--until_epoch={until_epoch}")
    with (path / LOG).open("ab") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} on {place.name}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [*command, *arguments],
            env=os.environ | place.environ,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=locks,
            # Otherwise a terminal's Ctrl-C would reach it, too, and a second one means "at once".
            start_new_session=True,
        )
        return Worker(process, place, path / LOG, log.tell(), time.monotonic())


def read_failure(path: epath.Path) -> str:
    """Returns when and why the newest start in a folder failed; "" if it didn't."""
    try:
        return (path / FAILED).read_text()
    except FileNotFoundError:
        return ""


def write_failure(path: epath.Path, reason: str) -> None:
    """Notes a failure for the other commands that work on the same runs."""
    files.write_text(path / FAILED, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n")


def reason_of(failure: str) -> str:
    """Returns the reason in a text of `read_failure`."""
    return failure.split(maxsplit=2)[2].strip()
