"""Measures jaxlung against PyTorch on this machine and prints a table.

    python -m benchmarks.peers.run --torch_python=PATH/TO/python
    python -m benchmarks.peers.run --torch_python=PATH/TO/python --check
    python -m benchmarks.peers.run --torch_python=... --cases=covidqu_256_b16 --modes=compile

Two processes, one for each side, take turns, so that other load slows both alike.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.peers import cases, check, measure, protocol

WORDS = ("eager", "channels_last", "compile", "graphs", "autocast")
CPU_MODES = ("eager", "channels_last", "compile+channels_last")
GPU_MODES = ("eager", "channels_last+autocast", "compile+channels_last+autocast")
SOURCES = ("memory", "loader")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line: measures or, with `--check`, compares; returns the exit code."""
    args = _parse(argv)
    with _workers(args) as sides:
        machine = _machine(*(side.ask("hello") for side in sides))
        names = args.cases or cases.CHECK_CASES
        rows = [_compare(name, *sides) for name in names] if args.check else []
    if not args.check:
        rows = list(_measure_all(args, machine["platform"]))
    print(_heading(machine))
    print(check.table(rows) if args.check else measure.table(rows))
    if args.out:
        result = {"machine": machine, "arguments": vars(args), "rows": rows}
        pathlib.Path(args.out).write_text(json.dumps(result, indent=1))
    return int(args.check and not all(row["equal"] for row in rows))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", default=sys.executable, help="interpreter with PyTorch")
    parser.add_argument("--check", action="store_true", help="compare results, not speed")
    parser.add_argument("--cases", type=_names, default=[], help=f"of {', '.join(cases.CASES)}")
    parser.add_argument(
        "--modes", type=_names, default=[], help=f"of {', '.join(WORDS)}, joined by +"
    )
    parser.add_argument("--inputs", type=_names, default=["memory"], help=f"of {SOURCES}")
    parser.add_argument(
        "--platform", choices=("", "cpu"), default="", help='"": the fastest there is'
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each run")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs")
    parser.add_argument(
        "--num_threads",
        type=int,
        default=4,
        help="threads or processes that make input, on either side",
    )
    parser.add_argument("--out", default="", help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        _require_known(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def _names(text: str) -> list[str]:
    return text.split(",")


def _require_known(args: argparse.Namespace) -> None:
    for name in args.cases:
        cases.find(name)
    for source in args.inputs:
        _require_one_of("--inputs", source, SOURCES)
    for word in "+".join(args.modes).split("+") if args.modes else ():
        _require_one_of("--modes", word, WORDS)
    if args.seconds <= 0 or args.repeats < 1 or args.num_threads < 1:
        raise ValueError(
            f"--seconds, --repeats, --num_threads: got {args.seconds}, {args.repeats}, "
            f"{args.num_threads}; want more than 0."
        )


def _require_one_of(flag: str, got: str, choices: Sequence[str]) -> None:
    if got not in choices:
        raise ValueError(f"{flag}: got {got!r}, want some of {', '.join(choices)}.")


@contextlib.contextmanager
def _workers(args: argparse.Namespace) -> Iterator[tuple[protocol.Worker, protocol.Worker]]:
    """Yields jaxlung's process and PyTorch's, on the same device."""
    # Otherwise JAX would take most of the memory before PyTorch starts.
    environ = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if args.platform == "cpu":
        environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    with (
        protocol.Worker(sys.executable, "benchmarks.peers.jax_worker", environ) as jax_side,
        protocol.Worker(args.torch_python, "benchmarks.peers.torch_worker", environ) as torch_side,
    ):
        yield jax_side, torch_side


def _machine(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Returns a description of the machine.

    Raises:
        ValueError: the two sides run on different kinds of device.
    """
    if ours["platform"] != theirs["platform"]:
        raise ValueError(
            f"peers: JAX runs on {ours['platform']} and PyTorch on {theirs['platform']}, want the "
            "same; install the other wheel, or give --platform=cpu."
        )
    return {
        "platform": ours["platform"],
        "device": theirs["device"],
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": ours["versions"] | theirs["versions"],
        "date": datetime.date.today().isoformat(),
    }


def _heading(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['platform']} ({machine['device']}), {machine['cores']} CPU cores"
    return f"{machine['date']}, {where}; {versions}. Median (least to most).\n"


def _compare(name: str, *sides: protocol.Worker) -> dict[str, Any]:
    _say(f"{name}: comparing")
    return check.compare(name, *sides)


def _measure_all(args: argparse.Namespace, where: str) -> Iterator[dict[str, Any]]:
    """Yields rows of all cases; workers restart after each case and each failure to free memory."""
    names = args.cases or (cases.GPU_CASES if where == "gpu" else cases.CPU_CASES)
    modes = args.modes or (GPU_MODES if where == "gpu" else CPU_MODES)
    for name in names:
        left = [(source, mode) for source in args.inputs for mode in modes]
        while left:
            with _workers(args) as sides:
                while left:
                    row = _measure(args, name, *left.pop(0), *sides)
                    yield row
                    if "error" in row:
                        break


def _measure(
    args: argparse.Namespace,
    name: str,
    source: str,
    mode: str,
    jax_side: protocol.Worker,
    torch_side: protocol.Worker,
) -> dict[str, Any]:
    """Builds both sides and times them in turn; returns a row, or the reason of a failure."""
    row = {"case": name, "source": source, "mode": mode}
    words = [word for word in mode.split("+") if word != "eager"]
    options = dict(
        dtype="bfloat16" if "autocast" in words else "float32",
        source=source,
        num_threads=args.num_threads,
    )
    case = cases.find(name)
    sections = cases.load_config(case, **options).to_dict()
    try:
        _say(f"{name}, {source}, {mode}: compiling")
        ours = jax_side.ask("make", case=name, fields={}, xla={}, **options)
        theirs = torch_side.ask(
            "make", sections=sections, network=case.network, words=words, source=source
        )
        _say(f"{name}, {source}, {mode}: measuring")
        batch_size = sections["data"]["batch_size"]
        rates = measure.alternate(
            lambda steps: jax_side.ask("run", steps=steps),
            lambda steps: torch_side.ask("run", steps=steps),
            batch_size,
            args.seconds,
            args.repeats,
        )
    except protocol.Refused as refused:
        _say(f"{name}, {source}, {mode}: {refused}")
        return row | {"error": str(refused)}
    _say(f"{name}, {source}, {mode}: jaxlung / PyTorch {rates['ratio']['median']:.2f}")
    return row | rates | {"jax_made": ours, "torch_made": theirs}


def _say(text: str) -> None:
    """Writes progress to stderr, as the table goes to stdout."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, protocol.Refused) as error:
        sys.exit(str(error))
