"""A traced JAX program as an ONNX graph: the operations that the networks here are made of.

`jax.make_jaxpr` writes a function down as a list of some thirty kinds of operation; each has its
counterpart in `OPERATIONS`. What doesn't depend on the inputs is computed here and stored, so that
a kernel is an array and not an array with transpositions around it.

Small integers are int32 inside: onnxruntime adds and compares few other types. So programs that
count on uint8 wrapping round come out wrong; none here does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from jax.extend import core
from onnx import helper, numpy_helper

OPSET = 18  # The first with bitwise operations; onnxruntime has it since 1.14.
# How many images are traced: a prime above all other sizes, so that what it divides is the batch's.
BATCH = 1_000_003

Value = np.ndarray | str  # known now, or the name of what is computed later
CALLS = ("jit", "pjit", "custom_jvp_call")


class Graph:
    """Nodes and stored arrays, in the order in which they were added.

    Attributes:
        nodes: for `onnx.helper.make_graph`.
        stored: likewise.
        scope: the layer that is being translated, which names what is added.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.scope = ""

    def add(self, operator: str, *inputs: Value, name: str = "", **attributes: Any) -> str:
        """Adds an ONNX operator with one output; returns the output's name."""
        names = [x if isinstance(x, str) else self._store(x) for x in inputs]
        name = name or f"{self.scope}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], name=name, **attributes))
        return name

    def _store(self, array: np.ndarray) -> str:
        name = f"{self.scope}/constant_{len(self.stored)}"
        if onnx_type(array.dtype) == onnx.TensorProto.INT32:
            array = array.astype(np.int32)
        self.stored.append(numpy_helper.from_array(array, name))
        return name


def onnx_type(dtype: np.dtype) -> int:
    """What stands for a NumPy type inside a graph; see the module."""
    if dtype in (np.uint8, np.int8, np.int16):
        return onnx.TensorProto.INT32
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def translate(program: core.ClosedJaxpr, inputs: Sequence[Value], graph: Graph) -> list[Value]:
    """Adds a program to a graph.

    Args:
        program: traced with `BATCH` images.
        inputs: of the program, in order; arrays for weights, names for the graph's inputs.
        graph: is added to.

    Returns:
        What stands for each output of the program.

    Raises:
        ValueError: an operation that is not in `OPERATIONS`.
    """
    values = dict(zip(program.jaxpr.constvars, map(np.asarray, program.consts), strict=True))
    values |= zip(program.jaxpr.invars, inputs, strict=True)

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    outer = graph.scope
    for eqn in program.jaxpr.eqns:
        graph.scope = "/".join(filter(None, [outer, str(eqn.source_info.name_stack)]))
        outputs = _translate_one(graph, eqn, [read(atom) for atom in eqn.invars])
        values |= zip(eqn.outvars, outputs, strict=True)
    graph.scope = outer
    return [read(atom) for atom in program.jaxpr.outvars]


def _translate_one(graph: Graph, eqn: core.JaxprEqn, values: list[Value]) -> list[Value]:
    name = eqn.primitive.name
    if name in CALLS:
        inner = eqn.params["jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"]
        return translate(inner, values, graph)
    if name == "platform_index":  # ONNX is none of the platforms that have a form of their own.
        return [np.int32(len(eqn.params["platforms"]) - 1)]
    if name == "cond" and _is_known(values[0]):
        return translate(eqn.params["branches"][int(values[0])], values[1:], graph)
    found = [var.aval for var in eqn.outvars]
    if any(0 in aval.shape for aval in found):  # What `jnp.pad` puts where nothing is padded.
        return [np.zeros(aval.shape, aval.dtype) for aval in found]
    if all(map(_is_known, values)) and not any(_has_batch(aval.shape) for aval in found):
        return _compute(eqn, values)
    if name not in OPERATIONS:
        raise no_translation(graph, name)
    outputs = OPERATIONS[name](graph, eqn, *values)
    return outputs if isinstance(outputs, list) else [outputs]


def no_translation(graph: Graph, what: str) -> ValueError:
    """The error of an operation that the layer being translated has."""
    return ValueError(
        f"--output: {what} ({graph.scope or 'outside the network'}) can't be written as ONNX here; "
        "a .jaxlung file holds any network."
    )


def _compute(eqn: core.JaxprEqn, values: list[Value]) -> list[Value]:
    outputs = eqn.primitive.bind(*values, **eqn.params)
    return [np.asarray(x) for x in (outputs if eqn.primitive.multiple_results else [outputs])]


def _is_known(value: Value) -> bool:
    return not isinstance(value, str)


def _is_batch(size: int) -> bool:
    return size > 0 and size % BATCH == 0


def _has_batch(shape: Sequence[int]) -> bool:
    return any(map(_is_batch, shape))


def _shape_in(eqn: core.JaxprEqn) -> tuple[int, ...]:
    return eqn.invars[0].aval.shape


def _reshape(graph: Graph, eqn: core.JaxprEqn, x: str) -> str:
    return _to_shape(graph, x, eqn.outvars[0].aval.shape)


def _to_shape(graph: Graph, x: Value, shape: Sequence[int]) -> str:
    """ONNX works out one size by itself: that of the batch."""
    return graph.add("Reshape", x, np.int64([-1 if _is_batch(size) else size for size in shape]))


def _broadcast(graph: Graph, eqn: core.JaxprEqn, x: Value) -> Value:
    """What is known has no batch to broadcast to; the operators that take it will do that."""
    shape, before = eqn.outvars[0].aval.shape, _shape_in(eqn)
    ranked = [1] * len(shape)
    for axis, size in zip(eqn.params["broadcast_dimensions"], before, strict=True):
        ranked[axis] = size
    if _is_known(x):
        return x.reshape(ranked)
    if ranked != list(before):
        x = _to_shape(graph, x, ranked)
    if ranked == list(shape):
        return x
    return graph.add("Expand", x, np.int64([1 if _is_batch(size) else size for size in shape]))


def _transpose(graph: Graph, x: Value, axes: Sequence[int]) -> Value:
    return np.transpose(x, axes) if _is_known(x) else graph.add("Transpose", x, perm=list(axes))


def _conv(graph: Graph, eqn: core.JaxprEqn, x: Value, kernel: Value) -> str:
    """Images and kernels with channels in front, as ONNX has them."""
    params = eqn.params
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        raise no_translation(graph, "a transposed convolution")
    numbers = params["dimension_numbers"]
    y = graph.add(
        "Conv",
        _transpose(graph, x, numbers.lhs_spec),
        _transpose(graph, kernel, numbers.rhs_spec),
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=_begins_and_ends(params["padding"]),
        group=params["feature_group_count"],
    )
    return _transpose(graph, y, [int(axis) for axis in np.argsort(numbers.out_spec)])


def _begins_and_ends(pairs: Sequence[Sequence[int]]) -> list[int]:
    """(begin, end, ...) of each axis as all begins, then all ends."""
    return [int(pair[i]) for i in (0, 1) for pair in pairs]


def _product(graph: Graph, eqn: core.JaxprEqn, x: Value, kernel: Value) -> str:
    """A dense layer: the last axis of x with the first of a matrix."""
    contracted, batched = eqn.params["dimension_numbers"]
    axes = tuple(map(tuple, contracted))
    if axes != ((len(_shape_in(eqn)) - 1,), (0,)) or any(batched) or eqn.invars[1].aval.ndim != 2:
        raise no_translation(graph, f"a product over the axes {axes}")
    return graph.add("MatMul", x, kernel)


def _slice(graph: Graph, eqn: core.JaxprEqn, x: str) -> str:
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    whole = [(0, size, 1) for size in _shape_in(eqn)]
    cuts = list(zip(starts, stops, steps, strict=True))
    axes = [axis for axis, cut in enumerate(cuts) if cut != whole[axis]]
    if not axes:
        return x
    starts, stops, steps = np.int64([cuts[axis] for axis in axes]).T
    return graph.add("Slice", x, starts, stops, np.int64(axes), steps)


def _split(graph: Graph, eqn: core.JaxprEqn, x: str) -> list[Value]:
    axis = np.int64([eqn.params["axis"]])
    ends = np.cumsum(eqn.params["sizes"], dtype=np.int64)
    starts = ends - np.int64(eqn.params["sizes"])
    return [
        graph.add("Slice", x, starts[i : i + 1], ends[i : i + 1], axis) for i in range(len(ends))
    ]


def _concatenate(graph: Graph, eqn: core.JaxprEqn, *parts: Value) -> Value:
    avals = [atom.aval for atom in eqn.invars]
    parts = [part for part, aval in zip(parts, avals, strict=True) if 0 not in aval.shape]
    return graph.add("Concat", *parts, axis=eqn.params["dimension"]) if parts[1:] else parts[0]


def _stack(graph: Graph, eqn: core.JaxprEqn, *parts: Value) -> str:
    axis = eqn.params["axis"]
    apart = [graph.add("Unsqueeze", part, np.int64([axis])) for part in parts]
    return graph.add("Concat", *apart, axis=axis)


def _pad(graph: Graph, eqn: core.JaxprEqn, x: str, value: Value) -> str:
    config = eqn.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise no_translation(graph, "padding between pixels")
    return graph.add("Pad", x, np.int64(_begins_and_ends(config)), value)


def _select(graph: Graph, eqn: core.JaxprEqn, which: Value, *cases: Value) -> str:
    del eqn
    no, yes = cases  # Of two cases `which` is bool.
    return graph.add("Where", which, yes, no)


def _cast(graph: Graph, eqn: core.JaxprEqn, x: str) -> str:
    before, after = (onnx_type(atom.aval.dtype) for atom in (*eqn.invars, *eqn.outvars))
    return x if before == after else graph.add("Cast", x, to=after)


def _max(graph: Graph, eqn: core.JaxprEqn, x: Value, y: Value) -> str:
    del eqn
    if _is_known(y) and not y.any() and not y.ndim:
        return graph.add("Relu", x)  # Runtimes join it with the convolution before.
    return graph.add("Max", x, y)


def _not_equal(graph: Graph, eqn: core.JaxprEqn, x: Value, y: Value) -> str:
    del eqn
    return graph.add("Not", graph.add("Equal", x, y))


def _and(graph: Graph, eqn: core.JaxprEqn, x: Value, y: Value) -> str:
    is_bool = eqn.outvars[0].aval.dtype == bool
    return graph.add("And" if is_bool else "BitwiseAnd", x, y)


def _the_same(operator: str) -> Callable[..., str]:
    return lambda graph, eqn, *values: graph.add(operator, *values)


def _reduce(operator: str) -> Callable[..., str]:
    return lambda graph, eqn, x: graph.add(operator, x, np.int64(eqn.params["axes"]), keepdims=0)


OPERATIONS: dict[str, Callable[..., Value | list[Value]]] = {
    "add": _the_same("Add"),
    "and": _and,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "convert_element_type": _cast,
    "div": _the_same("Div"),
    "dot_general": _product,
    "ge": _the_same("GreaterOrEqual"),
    "gt": _the_same("Greater"),
    "logistic": _the_same("Sigmoid"),
    "max": _max,
    "min": _the_same("Min"),
    "mul": _the_same("Mul"),
    "ne": _not_equal,
    "pad": _pad,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_sum": _reduce("ReduceSum"),
    "reshape": _reshape,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "sub": _the_same("Sub"),
    "transpose": lambda graph, eqn, x: _transpose(graph, x, eqn.params["permutation"]),
}
