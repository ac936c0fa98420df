"""Compiles each config for accelerators that aren't here and counts its bytes; runs nothing."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import cases, isolated, page, plan
from jaxlung.benchmark import compiled, targets

TABLE = "Programs for {target}, for one device and one run"
# JAX leaves accelerators alone, and the table has the time of compilation.
ENVIRON = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
# Those for TPUs come last: each takes minutes.
TARGETS = ("h200", "h200:8", "v5e:16x16", "v5e:2x2")
QUICK_TARGETS = ("h200",)
# Of these, all programs on the first target.
ALL_PROGRAMS = (cases.COMPILED[0], cases.COMPILED[2])


def run(settings: plan.Plan) -> Iterator[page.Finding]:
    """Yields a row for each program as soon as it is compiled."""
    for target, case, program in chosen(settings):
        yield _row(settings, case, target, program)


def chosen(settings: plan.Plan) -> list[tuple[str, cases.Case, str]]:
    """Returns targets, cases and programs in the order of compiling.

    Raises:
        ValueError: a part of `settings.only` names none of them.
    """
    if settings.quick:
        return [(target, cases.QUICK[0], "train") for target in QUICK_TARGETS]
    every = {
        (target, case.name, str(case.fields["data.batch_size"]), program): (target, case, program)
        for target in TARGETS
        for case in cases.COMPILED
        for program in compiled.PROGRAMS
        if program == "train" or (case in ALL_PROGRAMS and target == TARGETS[0])
    }
    if not settings.only:
        return list(every.values())
    asked = [tuple(each.split("/")) for each in settings.only]
    for parts in asked:
        if not any(name[: len(parts)] == parts for name in every):
            listed = ", ".join("/".join(name) for name in every)
            raise ValueError(f"--only: got {'/'.join(parts)!r}, want some of {listed}.")
    return [
        found
        for name, found in every.items()
        if any(name[: len(parts)] == parts for parts in asked)
    ]


def _row(settings: plan.Plan, case: cases.Case, target: str, program: str) -> page.Finding:
    table = TABLE.format(target=target)
    try:
        found = isolated.call(
            measure,
            limit_s=settings.left(),
            environ=ENVIRON,
            target=target,
            program=program,
            **case.arguments,
        )
    except isolated.FailedError as error:
        row = {"config": case.name, "program": program, "compiled in": f"not compiled: {error}"}
        return page.Finding(table, row, {"error": str(error), "program": program} | case.arguments)
    return page.Finding(table, cells(case.name, found), {"case": case.name} | found)


def measure(config: str, fields: Mapping[str, Any], target: str, program: str) -> dict[str, Any]:
    """Compiles one program of a config for a target; its table goes to stderr.

    Args:
        config: name of a shipped config.
        fields: changes of the config; the batch is that of one device.
        target: see `targets.describe`.
        program: see `compiled.PROGRAMS`.
    """
    described = targets.describe(target)
    loaded = cases.load(config, fields)
    for name in ("batch_size", "eval_batch_size"):
        loaded.data[name] *= len(described.devices)
    with contextlib.redirect_stdout(sys.stderr):
        (found,) = compiled.run(loaded, described, [program])
        print(compiled.table(found))
    return found


def cells(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row of the table from the result of `compiled.compile_one`."""
    memory, moved, least = found["memory"], found["bytes"], found["least_seconds"]
    examples = found["batch_size"] / found["mesh"][0]
    outside = moved["products"] + moved["other"]
    does_not = "" if memory["fits"] else ", does not fit"
    return {
        "config": name,
        "program": found["program"],
        "batch": f"{examples:.0f}",
        "memory, GiB": f"{memory['total'] / 2**30:.2f}{does_not}",
        "TFLOP": f"{found['flops'] / 1e12:.3f}",
        "GB in convolutions": f"{moved['convolutions'] / 1e9:.2f}",
        "GB outside": f"{outside / 1e9:.2f} ({outside / examples / 1e9:.3f} each)",
        "of it turned": f"{moved['turned'] / 1e9:.2f}",
        "sent": sent(found["collectives"]),
        "products, ms": f"{1e3 * least['products']:.2f}",
        "memory, ms": f"{1e3 * least['memory']:.2f}",
        "links, ms": "" if least["links"] is None else f"{1e3 * least['links']:.2f}",
        "compiled in": f"{found['compile_seconds']:.0f} s",
    }


def sent(collectives: Mapping[str, Sequence[int]]) -> str:
    """Returns the collectives in words: "40 all-reduce: 124.2 MB"."""
    return (
        ", ".join(
            f"{count} {kind}: {num_bytes / 1e6:.1f} MB"
            for kind, (count, num_bytes) in collectives.items()
        )
        or "nothing"
    )
