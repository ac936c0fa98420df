"""Reads the text of a compiled program, XLA's optimised HLO: its instructions, by computation.

    program = hlo.parse(jax.jit(f).lower(*args).compile().as_text())

The text is that of the program of one device, so shapes are those of one device's part.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

# `%name (...) -> ... {` opens a computation; it holds `%name = shape opcode(...), attribute=...`.
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) .*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?P<root>ROOT )?%?(?P<name>\S+) = (?P<shape>.+?) (?P<opcode>[\w-]+)\((?P<rest>.*)$"
)
_CALLEES = re.compile(
    r"\b(?P<how>calls|to_apply|body|true_computation|false_computation|branch_computations)="
    r"(?:\{(?P<several>[^}]*)\}|(?P<one>%?[\w.-]+))"
)
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_OPERAND = re.compile(r"%([\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """The shape of an array, such as "bf16[8,128]{1,0:T(8,128)(2,1)S(1)}".

    Attributes:
        dtype: XLA's name of the type.
        sizes: number of elements along each axis.
        layout: text of the layout: the axes from the fastest to the slowest; then, in programs for
            TPUs, its tiles "T(...)" and its memory "S(...)"; "" if it isn't given.
    """

    dtype: str
    sizes: tuple[int, ...]
    layout: str = ""

    @property
    def text(self) -> str:
        """The shape without its layout: "bf16[8,128]"."""
        return f"{self.dtype}[{','.join(map(str, self.sizes))}]"

    @property
    def minor_to_major(self) -> tuple[int, ...]:
        """Axes from the fastest to the slowest."""
        axes = self.layout.partition(":")[0]
        if not axes:
            return tuple(reversed(range(len(self.sizes))))
        return tuple(map(int, axes.split(",")))

    @property
    def is_on_chip(self) -> bool:
        """True if it is in a TPU's memory on the chip, so that using it moves no bytes outside."""
        # Only programs for TPUs have tiles. On GPUs memory 1 is another part of the device's.
        return "T(" in self.layout and "S(1)" in self.layout

    @property
    def num_bytes(self) -> int:
        """Bytes with the padding of a TPU's tiles; rounded up for types below one byte."""
        sizes = [self.sizes[axis] for axis in self.minor_to_major]
        if tile := _TILE.search(self.layout):
            tiles = [int(size) for size in reversed(tile[1].split(","))]
            for i, size in enumerate(tiles[: len(sizes)]):
                sizes[i] = -(-sizes[i] // size) * size
        bits = 8 if self.dtype == "pred" else int((re.search(r"\d+", self.dtype) or "0")[0])
        return -(-bits * math.prod(sizes) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: its name in the program.
        arrays: the arrays of its result; several for a tuple.
        opcode: what it does, such as "fusion".
        operands: names of its operands.
        attributes: the rest of its line.
        is_root: True if its result is that of its computation.
        parameter_number: which operand of a call a "parameter" stands for; None for others.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool
    parameter_number: int | None = None

    @functools.cached_property
    def op_name(self) -> str:
        """JAX's name for its origin; "" if XLA has lost it."""
        name = _OP_NAME.search(self.attributes)
        return name[1] if name else ""

    @functools.cached_property
    def callees(self) -> tuple[str, ...]:
        """Names of the computations that it calls; of a loop, that of its body."""
        return tuple(_callees(self.attributes))

    @property
    def times(self) -> int | None:
        """Number of times that it runs its callees; None for a loop of unknown length."""
        if self.opcode != "while":
            return 1
        trips = _TRIP_COUNT.search(self.attributes)
        return int(trips[1]) if trips else None


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        entry: name of the computation that it begins with.
        computations: name -> instructions by name, in the order of the text.
    """

    entry: str
    computations: Mapping[str, Mapping[str, Instruction]]

    def runs(self, opcodes: tuple[str, ...] = ()) -> dict[str, int | None]:
        """Returns how often each computation runs; None inside a loop of unknown length.

        Every branch of a conditional counts as taken.

        Args:
            opcodes: only calls of these instructions are followed; () follows all.
        """
        counts: dict[str, int | None] = collections.defaultdict(int)

        def run(name: str, times: int | None) -> None:
            before = counts[name]
            counts[name] = None if before is None or times is None else before + times
            for instruction in self.computations.get(name, {}).values():
                # The updates of an asynchronous call repeat the callee of its start.
                if instruction.opcode in ("async-update", "async-done"):
                    continue
                if opcodes and instruction.opcode not in opcodes:
                    continue
                each = instruction.times
                for callee in instruction.callees:
                    run(callee, None if times is None or each is None else times * each)

        run(self.entry, 1)
        return counts


def parse(text: str) -> Program:
    """Reads the result of `compiled.as_text()`.

    Raises:
        ValueError: the text is not an HLO module.
    """
    entry = ""
    current: dict[str, Instruction] = {}
    computations: dict[str, dict[str, Instruction]] = {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations[header["name"]] = {}
            entry = header["name"] if header["entry"] else entry
        elif match := _INSTRUCTION.match(line):
            operands, attributes = _split_operands(match["rest"])
            current[match["name"]] = Instruction(
                name=match["name"],
                arrays=parse_shape(match["shape"]),
                opcode=match["opcode"],
                operands=operands,
                attributes=attributes,
                is_root=bool(match["root"]),
                parameter_number=int(match["rest"].partition(")")[0])
                if match["opcode"] == "parameter"
                else None,
            )
    if not entry:
        raise ValueError(f"hlo: got {text[:40]!r}, want the text of a compiled program.")
    return Program(entry, computations)


def parse_shape(text: str) -> tuple[Array, ...]:
    """Returns the arrays of a shape, such as "(f32[2]{0}, pred[])"."""
    return tuple(
        Array(dtype, tuple(int(size.removeprefix("<=")) for size in sizes.split(",") if size), at)
        for dtype, sizes, at in _ARRAY.findall(text)
    )


def _split_operands(rest: str) -> tuple[tuple[str, ...], str]:
    """Returns the operands' names and the attributes, from what follows the opening bracket."""
    depth = 1
    for end, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return tuple(_OPERAND.findall(rest[:end])), rest[end + 1 :]
    return tuple(_OPERAND.findall(rest)), ""


def _callees(attributes: str) -> Iterator[str]:
    for match in _CALLEES.finditer(attributes):
        for name in (match["several"] or match["one"]).split(","):
            yield name.strip().removeprefix("%")
