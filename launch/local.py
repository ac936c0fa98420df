"""Starts one run as several processes on this machine, like a small pod.

    python -m launch.local --processes=2 --devices_per_process=2 -- --config=covidqu:quick
    python -m launch.local --processes=2 -- evaluate --workdir=runs/covidqu_quick

Every process gets the arguments after `--`, which are those of `jaxlung train`, `evaluate` or
`benchmark`. Processes run on the CPU with simulated devices. If JAX_PLATFORMS names another
platform, they share the GPUs of the machine.
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

GRACE_SECONDS = 20.0  # From SIGTERM to SIGKILL, for processes whose peer has failed.
POLL_SECONDS = 0.05
COUNT_FLAG = "--xla_force_host_platform_device_count"
OURS = ("coordinator", "num_processes", "process_id")  # flags that environment variables replace


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}.")


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit code of `run`, or 2 for bad flags."""
    try:
        flags, arguments = parse(argv)
    except ValueError as error:
        sys.stderr.write(f"launch.local: {error}\n")
        return 2
    command = [sys.executable, "-m", "jaxlung.main", *arguments]
    return run(command, flags.processes, flags.devices_per_process)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns our flags and the arguments of every process.

    Raises:
        ValueError: a flag is unknown or its value is wrong.
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
        raise ValueError("want -- and then the arguments of jaxlung, such as -- --config=FILE.")
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in OURS:
            raise ValueError(f"--{name}: got it after --; leave it out, each process gets its own.")
    return flags, arguments


def run(
    command: Sequence[str],
    processes: int,
    devices_per_process: int,
    *,
    environ: Mapping[str, str] = os.environ,
    grace_seconds: float = GRACE_SECONDS,
) -> int:
    """Starts `command` `processes` times and waits until all have ended.

    Each SIGTERM and SIGINT to this process is passed on once to every process. If a process fails,
    the others get SIGTERM, and SIGKILL after `grace_seconds`.

    Args:
        command: command of every process; they tell themselves apart by their environment.
        processes: number of processes.
        devices_per_process: number of devices of each process.
        environ: environment that the processes inherit.
        grace_seconds: time for a process to end after another one has failed.

    Returns:
        0 if all exited with 0; else the exit code of the first that failed, which is 128 + the
        number of the signal if a signal ended it.
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
            _send(children, signal.SIGKILL)  # Only after an error here is any left.
            for thread in readers:
                thread.join(timeout=grace_seconds)  # Grandchildren may hold the pipe.


def make_environ(
    environ: Mapping[str, str],
    coordinator: str,
    processes: int,
    process_id: int,
    devices_per_process: int,
) -> dict[str, str]:
    """Returns the environment of one process: the address of process 0, its number, its devices."""
    made = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONUNBUFFERED": "1",  # Lines are passed on as soon as they are written.
        **environ,
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process_id),
    }
    if made["JAX_PLATFORMS"] == "cpu":
        flags = (environ.get("XLA_FLAGS", ""), f"{COUNT_FLAG}={devices_per_process}")
        made["XLA_FLAGS"] = " ".join(filter(None, flags))  # XLA takes the last of two equal flags.
    else:
        first = process_id * devices_per_process
        devices = range(first, first + devices_per_process)
        made["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, devices))
    return made


def free_port() -> int:
    """Returns a port on which nobody listens; process 0 takes it a second later."""
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
    # Each process has its own session. Otherwise a terminal's Ctrl-C would reach it twice, directly
    # and from us, and the second signal means "stop at once".
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
            if line.startswith(b"[Gloo]"):  # Gloo reports every connection.
                continue
            # Each line is one write, so that lines of two processes don't mix.
            target.write(prefix + line.decode(errors="replace").rstrip("\n") + "\n")
            target.flush()


def _watch(
    children: Sequence[subprocess.Popen[bytes]], received: Sequence[int], grace_seconds: float
) -> int:
    """Waits for all processes, passes signals on, and ends the others once one has failed."""
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
        child.send_signal(number)  # Does nothing if the process has ended.


def first_failure(codes: Sequence[int | None]) -> int:
    """Returns which process failed first. Of several, one that was killed made the others fail."""
    return min((x for x, code in enumerate(codes) if code), key=lambda x: (codes[x] > 0, x))


def exit_code(code: int) -> int:
    """Returns the exit code that a shell reports: 128 + the signal's number for a negative code."""
    return code if code >= 0 else 128 - code


def describe(process_id: int, code: int) -> str:
    """Returns the sentence about a process that failed."""
    how = f"exited with code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
    return f"process {process_id} {how}; the others are stopped. Run the same command to resume."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
