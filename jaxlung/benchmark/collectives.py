"""Reads from a compiled program what devices send to each other.

    compiled = jitted.lower(*args).compile()
    collectives.totals(collectives.parse(compiled.as_text()))

The text is that of the program of one device, so shapes are those of one device's part.
"""

import dataclasses
from collections.abc import Iterable

from jaxlung.benchmark import hlo

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


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


def parse(text: str) -> list[Collective]:
    """Returns the collectives of a program in the order of its text.

    Args:
        text: the result of `compiled.as_text()`.

    Raises:
        ValueError: the text is not an HLO module.
    """
    return find(hlo.parse(text))


def find(program: hlo.Program) -> list[Collective]:
    """Returns the collectives of a program; a pair of `-start` and `-done` counts once."""
    runs = program.runs()
    return [
        _describe(instruction, runs[name])
        for name, computation in program.computations.items()
        for instruction in computation.values()
        # The result of a start includes its operands. That of its done has the shape we want.
        if instruction.opcode.removesuffix("-done") in KINDS and runs[name] != 0
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


def _describe(instruction: hlo.Instruction, count: int | None) -> Collective:
    # Without their padding in a TPU's memory: it is not sent.
    arrays = [dataclasses.replace(array, layout="") for array in instruction.arrays]
    return Collective(
        kind=instruction.opcode.removesuffix("-done"),
        shapes=tuple(array.text for array in arrays),
        num_bytes=sum(array.num_bytes for array in arrays),
        count=count,
        op_name=instruction.op_name,
    )
