"""Counts the bytes that the instructions of a compiled program read and write in device memory.

Every instruction that runs by itself (a fusion, a library call, a copy) reads its operands and
writes its results once. What stays inside a fusion costs nothing. This is the least that the
program moves: a cache may hold an operand for the next instruction, and a kernel may read one
several times. Of an operand that a fusion only slices, the slices count.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from jaxlung.benchmark import hlo

# They move nothing: they name, join or take apart what is there, or wait for another instruction.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id"),
    *("replica-id", "after-all", "add-dependency", "opt-barrier", "domain"),
    *("call", "while", "conditional", "async-start", "async-update", "async-done"),
    *("send-done", "recv-done"),
)
# "ConcatBitcast" names slices that were copied side by side into a TPU's memory on the chip.
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast", "Sharding", "AnnotateDevicePlacement")
_CALLERS = ("call", "while", "conditional", "async-start")  # Their callees' instructions run.
_SLICES = ("slice", "dynamic-slice", "gather")  # They read as much as they give.
_VIEWS = ("bitcast", "reshape")  # Inside a fusion they change an index, not bytes.
_TURNS = ("transpose", "copy")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_CUDNN = "__cudnn$conv"
# Parts of a name that are no layers: "jit(f)", "jvp(UNet)", "UNet", "UNet._encode", "while", ...
_NO_LAYER = re.compile(
    r"[().]|^([A-Z].*|while|body|cond|closed_call|checkpoint|remat|branch_\d+_fun)$"
)


@dataclasses.dataclass(frozen=True)
class Move:
    """The memory traffic of one instruction.

    Attributes:
        name: its name in the program.
        kind: "convolution", "product" (of matrices) or "other". A fusion that holds a convolution
            is one: on TPUs these also read and write for the normalisation around it.
        is_turn: True if its result is a transpose or a copy: bytes are moved, nothing is computed.
        channels_first: True for a convolution by cuDNN whose channels aren't last. On tensor cores
            cuDNN turns its operands and its result around, which this count doesn't see.
        num_axes: axes of its largest result: 5 for a batch of volumes.
        num_read: bytes read in one execution.
        num_written: bytes written in one execution.
        count: executions in one run of the program; None in a loop of unknown length.
        shapes: shapes of its results.
        op_name: JAX's name for its origin.
    """

    name: str
    kind: str
    is_turn: bool
    channels_first: bool
    num_axes: int
    num_read: int
    num_written: int
    count: int | None
    shapes: str
    op_name: str

    @property
    def num_bytes(self) -> int:
        """Bytes of all executions; those in a loop of unknown length count once."""
        return (self.num_read + self.num_written) * (1 if self.count is None else self.count)


def find(program: hlo.Program) -> list[Move]:
    """Returns what moves bytes in a program, in the order of its text."""
    runs = program.runs(_CALLERS)
    return [
        _measure(instruction, computation, program, runs[name])
        for name, computation in program.computations.items()
        if runs[name] != 0
        for instruction in computation.values()
        if not _is_free(instruction)
    ]


def total(moves: list[Move], kind: str = "") -> int:
    """Returns the bytes of all moves, or of those of a kind."""
    return sum(move.num_bytes for move in moves if not kind or move.kind == kind)


def layer_of(op_name: str) -> str:
    """Returns the layer that an instruction comes from, and "backward" if it is of its gradient.

    Args:
        op_name: such as "jit(step_fn)/transpose(jvp(UNet))/encoder_0/norm_1/reduce_sum".

    Returns:
        "encoder_0/norm_1, backward"; the operation's own name outside the network; "" for "".
    """
    *path, operation = op_name.split("/")
    kept = [part for part in path if not _NO_LAYER.search(part)]
    name = "/".join(kept) or operation
    return name + ", backward" * ("transpose(" in op_name)


def _is_free(instruction: hlo.Instruction) -> bool:
    if instruction.opcode == "custom-call":
        return _target(instruction) in _FREE_TARGETS
    return instruction.opcode in _FREE


def _target(instruction: hlo.Instruction) -> str:
    found = _TARGET.search(instruction.attributes)
    return found[1] if found else ""


def _measure(
    instruction: hlo.Instruction,
    computation: Mapping[str, hlo.Instruction],
    program: hlo.Program,
    count: int | None,
) -> Move:
    kind = _kind(instruction, program)
    arrays = instruction.arrays
    largest = max((len(array.sizes) for array in arrays), default=0)
    return Move(
        name=instruction.name,
        kind=kind,
        is_turn=kind == "other" and _is_turn(instruction, program),
        channels_first=_is_channels_first(instruction),
        num_axes=largest,
        num_read=_read(instruction, computation, program),
        num_written=_written(instruction, computation, program),
        count=count,
        shapes=", ".join(array.text for array in arrays),
        op_name=instruction.op_name,
    )


def _bytes(arrays: tuple[hlo.Array, ...]) -> int:
    return _size(tuple(array for array in arrays if not array.is_on_chip))


def _size(arrays: tuple[hlo.Array, ...]) -> int:
    return sum(array.num_bytes for array in arrays)


# What an instruction is


def _kind(instruction: hlo.Instruction, program: hlo.Program) -> str:
    kinds = {_own_kind(each) for each in _inside(instruction, program)}
    return next((kind for kind in ("convolution", "product") if kind in kinds), "other")


def _own_kind(instruction: hlo.Instruction) -> str:
    if instruction.opcode == "convolution":
        labels = _LABELS.search(instruction.attributes)
        # TPUs compute products of matrices as convolutions without a window.
        return "convolution" if labels and re.search(r"\d", labels[1]) else "product"
    if instruction.opcode == "dot":
        return "product"
    target = _target(instruction) if instruction.opcode == "custom-call" else ""
    if target.startswith(_CUDNN):
        return "convolution"
    return "product" if target.startswith("__cublas") else "other"


def _inside(instruction: hlo.Instruction, program: hlo.Program) -> Iterator[hlo.Instruction]:
    """Yields the instruction and, of a fusion, all instructions in it."""
    yield instruction
    if instruction.opcode == "fusion":
        for callee in instruction.callees:
            for each in program.computations[callee].values():
                yield from _inside(each, program)


def _is_turn(instruction: hlo.Instruction, program: hlo.Program) -> bool:
    """Returns whether a result is a transpose or a copy of something."""
    if instruction.opcode != "fusion":
        return instruction.opcode in _TURNS
    inside = program.computations[instruction.callees[0]]
    return any(each.opcode in _TURNS for each in _roots(inside))


def _roots(computation: Mapping[str, hlo.Instruction]) -> Iterator[hlo.Instruction]:
    """Yields what makes the results of a fusion, behind tuples and views."""
    waiting = [each for each in computation.values() if each.is_root]
    while waiting:
        root = waiting.pop()
        if root.opcode == "tuple" or root.opcode in _VIEWS:
            waiting += [computation[name] for name in root.operands if name in computation]
        else:
            yield root


def _is_channels_first(instruction: hlo.Instruction) -> bool:
    if instruction.opcode != "custom-call" or not _target(instruction).startswith(_CUDNN):
        return False
    labels = _LABELS.search(instruction.attributes)
    return labels is not None and not (labels[1].endswith("f") and labels[3].endswith("f"))


# What it reads and writes


def _read(
    instruction: hlo.Instruction,
    computation: Mapping[str, hlo.Instruction],
    program: hlo.Program,
) -> int:
    opcode = instruction.opcode
    if opcode.endswith("-done"):
        return 0  # Its start has read.
    operands = {
        i: _bytes(computation[name].arrays)
        for i, name in enumerate(instruction.operands)
        if name in computation
    }
    if opcode in _SLICES:
        operands[0] = min(operands.get(0, 0), _size(instruction.arrays))
    elif opcode == "slice-start":  # Its result names its operand, the slice and a counter.
        operands[0] = min(operands.get(0, 0), _size(instruction.arrays[1:2]))
    elif opcode in ("dynamic-update-slice", "scatter"):
        operands[0] = 0  # It is changed where it is.
    elif opcode == "fusion":
        inside = program.computations[instruction.callees[0]]
        for i, num_bytes in operands.items():
            operands[i] = min(num_bytes, _read_inside(i, num_bytes, inside))
    # An operand that is given twice is read once.
    most: dict[str, int] = {}
    for i, num_bytes in operands.items():
        name = instruction.operands[i]
        most[name] = max(most.get(name, 0), num_bytes)
    return sum(most.values())


def _read_inside(number: int, num_bytes: int, inside: Mapping[str, hlo.Instruction]) -> int:
    """Returns the bytes that a fusion reads of its operand `number`, which has `num_bytes`."""
    parameter = next(
        (each.name for each in inside.values() if each.parameter_number == number),
        None,
    )
    if parameter is None:
        return num_bytes
    total = 0
    for user, place in _users(parameter, inside):
        if user.opcode in _SLICES and place == 0:
            total += _size(user.arrays)
        elif user.opcode != "dynamic-update-slice" or place != 0:
            return num_bytes
    return total


def _users(
    name: str, inside: Mapping[str, hlo.Instruction]
) -> Iterator[tuple[hlo.Instruction, int]]:
    """Yields who uses a value, and as which operand; views of it are looked through."""
    for each in inside.values():
        for place, operand in enumerate(each.operands):
            if operand != name:
                continue
            if each.opcode in _VIEWS:
                yield from _users(each.name, inside)
            else:
                yield each, place


def _written(
    instruction: hlo.Instruction,
    computation: Mapping[str, hlo.Instruction],
    program: hlo.Program,
) -> int:
    opcode, arrays = instruction.opcode, instruction.arrays
    if opcode.endswith("-start"):
        return 0  # Its done has the result.
    if opcode in ("dynamic-update-slice", "scatter"):
        return _updated(instruction, computation)
    if opcode == "custom-call" and _target(instruction).startswith(_CUDNN):
        return _bytes(arrays[:-1])  # The last one is cuDNN's scratch.
    if opcode != "fusion":
        return _bytes(arrays)
    inside = program.computations[instruction.callees[0]]
    roots = list(_roots(inside))
    if not any(root.opcode == "dynamic-update-slice" for root in roots):
        return _bytes(arrays)
    return sum(
        _updated(root, inside) if root.opcode == "dynamic-update-slice" else _bytes(root.arrays)
        for root in roots
    )


def _updated(instruction: hlo.Instruction, computation: Mapping[str, hlo.Instruction]) -> int:
    """Returns the bytes that change in an array that is changed where it is."""
    number = 1 if instruction.opcode == "dynamic-update-slice" else len(instruction.operands) - 1
    update = computation.get(instruction.operands[number])
    return _bytes(update.arrays if update else instruction.arrays)
