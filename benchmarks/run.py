"""Runs benchmark suites; writes tables to docs/benchmarks.md, all numbers to docs/benchmarks/.

    python -m benchmarks.run --suite=step         # or input, end_to_end, inference, scaling, ...
    python -m benchmarks.run --suite=all
    python -m benchmarks.run --suite=peers --torch_python=PATH/TO/python
    python -m benchmarks.run --suite=step --quick --page=/tmp/page.md --json=/tmp    # to try it out

The page has a section for each suite and kind of device. A measurement replaces its own section
only. Rows are written as soon as they are measured.
"""

import argparse
import json
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import (
    commands,
    compiled,
    end_to_end,
    ensembles,
    inference,
    input,
    isolated,
    machine,
    page,
    plan,
    step,
)

SUITES: dict[str, Callable[[plan.Plan], Iterator[page.Finding]]] = {
    "step": step.run,
    "input": input.run,
    "end_to_end": end_to_end.run,
    "inference": inference.run,
    "ensembles": ensembles.run,
    "scaling": commands.scaling,
    "peers": commands.peers,
    "layers": commands.layers,
    "compiled": compiled.run,
}
DOCS = pathlib.Path(__file__).parent.parent / "docs"
ASKING_S = 300  # limit for JAX to find its devices


def main(argv: Sequence[str]) -> None:
    """Runs the command line: measures suites one after the other."""
    args = _parse(argv)
    begin = time.monotonic()
    described = isolated.call(machine.describe, limit_s=ASKING_S)
    for name in SUITES if args.suite == "all" else [args.suite]:
        settings = plan.Plan(
            platform=described["platform"],
            quick=args.quick,
            seconds=args.seconds or (0.1 if args.quick else 3.0),
            end=begin + args.limit_s,
            torch_python=args.torch_python,
            only=tuple(filter(None, args.only.split(","))),
        )
        _measure(name, settings, described, args)
        begin = time.monotonic()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", required=True, choices=[*SUITES, "all"])
    parser.add_argument(
        "--quick", action="store_true", help="tiny cases, to see that all of it runs"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="approximate time for each measurement"
    )
    parser.add_argument("--limit_s", type=float, default=3600.0, help="time limit of a suite")
    parser.add_argument("--page", type=pathlib.Path, default=DOCS / "benchmarks.md")
    parser.add_argument(
        "--json", type=pathlib.Path, default=DOCS / "benchmarks", help="folder for JSON files"
    )
    parser.add_argument("--torch_python", default="", help="interpreter with PyTorch, for peers")
    parser.add_argument(
        "--only",
        default="",
        metavar="PROGRAMS",
        help="with --suite=compiled: which, as TARGET/CASE/BATCH/PROGRAM or its first parts, with "
        "commas: h200,h200:8/covidqu/64",
    )
    args = parser.parse_args(argv)
    if args.seconds < 0 or args.limit_s <= 0:
        parser.error(f"--seconds, --limit_s: got {args.seconds}, {args.limit_s}; want more than 0.")
    args.command = _command(args)
    return args


def _command(args: argparse.Namespace) -> str:
    """Returns the command that repeats the measurement, without paths of this machine."""
    words = [f"--suite={args.suite}"] + ["--quick"] * args.quick
    words += [f"--seconds={args.seconds:g}"] if args.seconds else []
    words += ["--torch_python=PATH"] if args.torch_python else []
    words += [shlex.quote(f"--only={args.only}")] if args.only else []
    return " ".join(["python -m benchmarks.run", *words])


def _measure(
    name: str, settings: plan.Plan, described: Mapping[str, Any], args: argparse.Namespace
) -> None:
    findings: list[page.Finding] = []
    print(f"{name}: on {machine.title(described)}", file=sys.stderr)
    for finding in SUITES[name](settings):
        findings.append(finding)
        print(f"{name}: {finding.cells or finding.text}", file=sys.stderr, flush=True)
        _write(name, findings, described, args, whole=False)
    _write(name, findings, described, args, whole=True)


def _write(
    name: str,
    findings: Sequence[page.Finding],
    described: Mapping[str, Any],
    args: argparse.Namespace,
    *,
    whole: bool,
) -> None:
    """Writes the page and the JSON so far; unless `whole`, both say that rows are missing."""
    device = machine.slug(described)
    versions = ", ".join(f"{name} {version}" for name, version in described["versions"].items())
    head = [f"### {machine.title(described)}", f"{described['date']}; {versions}; `{args.command}`"]
    head += ["Cases are tiny (`--quick`): these figures mean nothing."] * args.quick
    head += ["The suite was stopped before its end: rows are missing."] * (not whole)
    text = args.page.read_text() if args.page.exists() else "# Benchmarks\n"
    body = "\n\n".join([*head, page.section(findings)])
    is_accelerator = described["platform"] != "cpu"
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(page.update(text, name, device, body, is_accelerator=is_accelerator))
    args.json.mkdir(parents=True, exist_ok=True)
    rows = [{"table": each.table, "found": each.numbers} for each in findings]
    result = {"suite": name, "machine": described, "command": args.command, "whole": whole}
    path = args.json / f"{name}-{device}.json"
    path.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    # Exits normally on SIGTERM, which stops the processes that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(sys.argv[1:])
