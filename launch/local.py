"""A pod in miniature: several processes of `jaxlung.main` on this machine, as one run.

    python -m launch.local --processes=2 --devices_per_process=2 -- --config=covidqu:quick

What stands after `--` goes to every process. They run on the CPU, each with its share of made-up
devices, unless JAX_PLATFORMS says otherwise; then each takes the next of the machine's GPUs.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, NoReturn

GRACE_SECONDS = 20.0  # From SIGTERM to SIGKILL, for those whose peer has died.
POLL_SECONDS = 0.05
COUNT_FLAG = "--xla_force_host_platform_device_count"
OURS = ("coordinator", "num_processes", "process_id")  # flags that the environment stands for


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}.")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit code: that of `run`, or 2 for bad flags."""
    try:
        flags, arguments = parse(argv)
    except ValueError as error:
        sys.stderr.write(f"launch.local: {error}\n")
        return 2
    command = [sys.executable, "-m", "jaxlung.main", *arguments]
    return run(command, flags.processes, flags.devices_per_process)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and what goes to every process.

    Raises:
        ValueError: they can't be.
    """
    parser = _Parser("launch.local", allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2, help="processes of the run")
    parser.add_argument("--devices_per_process", type=int, default=1, help="devices of each")
    split = argv.index("--") if "--" in argv else len(argv)
    flags, arguments = parser.parse_args(argv[:split]), list(argv[split + 1 :])
    for name, value in vars(flags).items():
        if value < 1:
            raise ValueError(f"--{name}: got {value}, want 1 or more.")
    if not arguments:
        raise ValueError("want -- and then the flags of jaxlung.main, such as -- --config=FILE.")
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in OURS:
            raise ValueError(f"--{name}: got it after --; leave it out, it is given to each.")
    return flags, arguments


def run(
    command: Sequence[str],
    processes: int,
    devices_per_process: int,
    *,
    environ: Mapping[str, str] = os.environ,
    grace_seconds: float = GRACE_SECONDS,
) -> int:
    """Starts `command` `processes` times and stays until all have ended.

    SIGTERM and SIGINT go to every process, once each time that they come here. If a process fails,
    the others are sent SIGTERM, and SIGKILL after `grace_seconds`.

    Args:
        command: the same for all; the environment says which process it is.
        processes: how many.
        devices_per_process: of each.
        environ: what they inherit.
        grace_seconds: to end in after another's failure.

    Returns:
        0 if all exited with 0; else the exit code of the first that failed, 128 + the signal's
        number if a signal ended it.
    """
    coordinator = f"localhost:{free_port()}"
    received: list[int] = []
    children: list[subprocess.Popen[bytes]] = []
    readers: list[threading.Thread] = []
    with _collect_signals(received):
        try:
            for process_id in range(processes):
                env = make_environ(environ, coordinator, processes, process_id, devices_per_process)
                children.append(_start(command, env))
                readers += _pass_on_output(children[-1], f"[{process_id}] " if process_id else "")
            return _watch(children, received, grace_seconds)
        finally:
            _send(children, signal.SIGKILL)  # None is left, but after an error here.
            for thread in readers:
                thread.join(timeout=grace_seconds)  # Grandchildren may hold the pipe.


def make_environ(
    environ: Mapping[str, str],
    coordinator: str,
    processes: int,
    process_id: int,
    devices_per_process: int,
) -> dict[str, str]:
    """The environment of one process: where process 0 listens, which it is, and its devices."""
    made = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONUNBUFFERED": "1",  # A line is passed on when it is written.
        **environ,
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process_id),
    }
    if made["JAX_PLATFORMS"] == "cpu":
        flags = (environ.get("XLA_FLAGS", ""), f"{COUNT_FLAG}={devices_per_process}")
        made["XLA_FLAGS"] = " ".join(filter(None, flags))  # The last of two equal flags counts.
    else:
        first = process_id * devices_per_process
        devices = range(first, first + devices_per_process)
        made["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, devices))
    return made


def free_port() -> int:
    """A port on which nobody listens now; process 0 takes it a second later."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def _collect_signals(received: list[int]) -> Iterator[None]:
    def note(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)

    before = {x: signal.signal(x, note) for x in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own: a terminal's Ctrl-C would reach it beside what we pass on, and the
    # second of two signals means "at once".
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _pass_on_output(child: subprocess.Popen[bytes], prefix: str) -> list[threading.Thread]:
    pairs = ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    threads = [
        threading.Thread(target=_copy_lines, args=(source, target, prefix), daemon=True)
        for source, target in pairs
    ]
    for thread in threads:
        thread.start()
    return threads


def _copy_lines(source: IO[bytes], target: IO[str], prefix: str) -> None:
    with source:
        for line in source:
            if line.startswith(b"[Gloo]"):  # It tells of every connection.
                continue
            # One write for a line, so that those of two processes don't mix.
            target.write(prefix + line.decode(errors="replace").rstrip("\n") + "\n")
            target.flush()


def _watch(
    children: Sequence[subprocess.Popen[bytes]], received: Sequence[int], grace_seconds: float
) -> int:
    """Waits for all; passes signals on, and ends the others once one has failed."""
    num_sent, failed, deadline = 0, None, float("inf")
    while True:
        codes = [child.poll() for child in children]
        if failed is None and any(codes):
            failed = first_failure(codes)
            sys.stderr.write(f"launch.local: {describe(failed, codes[failed])}\n")
            sys.stderr.flush()
            _send(children, signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
        if None not in codes:
            return 0 if failed is None else exit_code(codes[failed])
        for number in received[num_sent:]:
            _send(children, number)
            num_sent += 1
        if time.monotonic() > deadline:
            _send(children, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _send(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        child.send_signal(number)  # Does nothing to one that has ended.


def first_failure(codes: Sequence[int | None]) -> int:
    """Which process failed, of those seen at once; one that was killed takes others with it."""
    return min((x for x, code in enumerate(codes) if code), key=lambda x: (codes[x] > 0, x))


def exit_code(code: int) -> int:
    """A child's return code as a shell would give it: 128 + the number of the signal."""
    return code if code >= 0 else 128 - code


def describe(process_id: int, code: int) -> str:
    """The sentence about a process that failed."""
    how = f"exited with code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
    return f"process {process_id} {how}; the others are stopped, the same command goes on."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
