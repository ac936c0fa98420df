"""Reads from the text of a compiled program (optimised HLO) what devices send to each other.

    compiled = jitted.lower(*args).compile()
    collectives.totals(collectives.parse(compiled.as_text()))

The text is that of the program of one device, so shapes are those of one device's part.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# `%name (...) -> ... {` opens a computation; it holds `%name = shape opcode(...), attribute=...`.
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (?P<shape>.+?) (?P<opcode>[\w-]+)\(")
_CALLEES = re.compile(
    r"\b(?:calls|to_apply|body|true_computation|false_computation|branch_computations)="
    r"(?:\{(?P<several>[^}]*)\}|(?P<one>%?[\w.-]+))"
)
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction that moves data between devices.

    Attributes:
        kind: one of `KINDS`.
        shapes: shapes of its results on one device, such as "f32[3,3,8,16]"; several if XLA
            combined some.
        num_bytes: bytes of all `shapes` together.
        count: number of executions in one run of the program; None in a loop of unknown length.
            Every branch of a conditional counts as taken.
        op_name: JAX's name for its origin; "" if XLA has lost it.
    """

    kind: str
    shapes: tuple[str, ...]
    num_bytes: int
    count: int | None
    op_name: str


@dataclasses.dataclass(frozen=True)
class Total:
    """All collectives of a kind in one run of a program.

    Attributes:
        count: number of executions.
        num_bytes: bytes of their results on one device.
    """

    count: int
    num_bytes: int


@dataclasses.dataclass
class _Computation:
    """A list of instructions: collectives, and calls as (callee, times) pairs."""

    collectives: list[Collective] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)


def parse(text: str) -> list[Collective]:
    """Returns the collectives of a program in the order of its text.

    A pair of `-start` and `-done` counts once.

    Args:
        text: the result of `compiled.as_text()`.

    Raises:
        ValueError: the text is not an HLO module.
    """
    entry, computations = _split(text)
    counts = _count_runs(entry, computations)
    return [
        dataclasses.replace(collective, count=counts[name])
        for name, computation in computations.items()
        for collective in computation.collectives
        if counts[name] != 0
    ]


def totals(found: Iterable[Collective]) -> dict[str, Total]:
    """Returns executions and bytes of each kind that occurs.

    Raises:
        ValueError: a collective is in a loop of unknown length.
    """
    sums: dict[str, Total] = {}
    for collective in found:
        if collective.count is None:
            raise ValueError(
                f"{collective.kind} {', '.join(collective.shapes)} ({collective.op_name}): got a "
                "loop of unknown length, want one whose trip count XLA knows."
            )
        before = sums.get(collective.kind, Total(0, 0))
        sums[collective.kind] = Total(
            before.count + collective.count,
            before.num_bytes + collective.count * collective.num_bytes,
        )
    return sums


def shape_bytes(shape: str) -> int:
    """Returns the bytes of an array such as "bf16[8,128]", rounded up for types below one byte."""
    dtype, sizes = _ARRAY.match(shape).groups()
    bits = 8 if dtype == "pred" else int((re.search(r"\d+", dtype) or "0")[0])
    for size in filter(None, sizes.split(",")):
        bits *= int(size.removeprefix("<="))
    return -(-bits // 8)


def _split(text: str) -> tuple[str, dict[str, _Computation]]:
    """Returns the name of the entry computation, and all computations by name."""
    entry, computations, current = "", {}, _Computation()
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations[header["name"]] = _Computation()
            entry = header["name"] if header["entry"] else entry
        elif instruction := _INSTRUCTION.match(line):
            _read(instruction["shape"], instruction["opcode"], line, current)
    if not entry:
        raise ValueError(f"collectives: got {text[:40]!r}, want the text of a compiled program.")
    return entry, computations


def _read(shape: str, opcode: str, line: str, computation: _Computation) -> None:
    """Adds the collective or the calls of one instruction to its computation."""
    # The result of a start includes its operands. That of its done has the shape we want.
    kind = opcode.removesuffix("-done")
    if kind in KINDS:
        shapes = tuple(f"{dtype}[{sizes}]" for dtype, sizes in _ARRAY.findall(shape))
        num_bytes = sum(map(shape_bytes, shapes))
        name = _OP_NAME.search(line)
        computation.collectives.append(
            Collective(kind, shapes, num_bytes, None, name[1] if name else "")
        )
    if opcode in ("async-update", "async-done"):
        return  # They repeat the callee of the start.
    times = 1
    if opcode == "while":
        trips = _TRIP_COUNT.search(line)
        times = int(trips[1]) if trips else None
    computation.calls.extend((callee, times) for callee in _callees(line))


def _callees(line: str) -> Iterator[str]:
    for match in _CALLEES.finditer(line):
        for name in (match["several"] or match["one"]).split(","):
            yield name.strip().removeprefix("%")


def _count_runs(entry: str, computations: dict[str, _Computation]) -> dict[str, int | None]:
    """Returns the number of runs of each computation; None after a loop of unknown length."""
    counts: dict[str, int | None] = collections.defaultdict(int)

    def run(name: str, times: int | None) -> None:
        before = counts[name]
        counts[name] = None if before is None or times is None else before + times
        for callee, each in computations[name].calls if name in computations else ():
            run(callee, None if times is None or each is None else times * each)

    run(entry, 1)
    return counts
