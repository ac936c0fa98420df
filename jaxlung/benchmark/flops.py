"""FLOPs of a traced program: two for every multiply-add of its convolutions and matrix products.

They are counted before compilation, so they are the same on every device. XLA's own counts of
compiled programs leave out library calls on GPUs, and count the body of a loop once, however often
it runs.
"""

import math
from collections.abc import Iterator

import numpy as np
from jax.extend import core


def count(jaxpr: core.Jaxpr) -> int:
    """Returns the FLOPs of a program, over all devices.

    Products with padding and with the holes of dilated arrays don't count, as in XLA; nor does
    anything that isn't a product, such as normalisation, augmentation and the optimizer. The most
    expensive of several branches counts. The body of a `while` loop counts once, because the number
    of its runs is unknown.

    Args:
        jaxpr: the program, `jax.jit(f).trace(...).jaxpr.jaxpr`.
    """
    total = 0
    for eqn in jaxpr.eqns:
        inner = [count(part) for part in _parts(eqn)]
        if eqn.primitive.name == "conv_general_dilated":
            total += _convolution(eqn)
        elif eqn.primitive.name == "dot_general":
            total += _product(eqn)
        elif eqn.primitive.name == "cond":
            total += max(inner)
        elif eqn.primitive.name == "scan":
            total += eqn.params["length"] * sum(inner)
        else:
            total += sum(inner)
    return total


def _parts(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Yields the programs inside an operation: bodies of loops, branches, called functions."""
    for param in eqn.params.values():
        for part in param if isinstance(param, tuple | list) else (param,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _shape(var: core.Var | core.Literal) -> tuple[int, ...]:
    return var.aval.shape  # type: ignore[attr-defined]  # Operands of products are arrays.


def _product(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = _shape(eqn.invars[0])
    contracted_size = math.prod(shape[axis] for axis in contracted)
    return 2 * math.prod(_shape(eqn.outvars[0])) * contracted_size


def _convolution(eqn: core.JaxprEqn) -> int:
    """Returns the FLOPs of a convolution; in JAX its two gradients are convolutions too."""
    image, kernel = map(_shape, eqn.invars)
    out = _shape(eqn.outvars[0])
    image_axes, kernel_axes, out_axes = eqn.params["dimension_numbers"]
    # Axes are (batch, features, space ...), and for the kernel (features out, in, space ...).
    pairs = 1
    for axis, (image_axis, kernel_axis, out_axis) in enumerate(
        zip(image_axes[2:], kernel_axes[2:], out_axes[2:], strict=True)
    ):
        pairs *= _pairs(
            (image[image_axis], kernel[kernel_axis], out[out_axis]),
            stride=eqn.params["window_strides"][axis],
            padding=eqn.params["padding"][axis][0],
            dilations=(eqn.params["lhs_dilation"][axis], eqn.params["rhs_dilation"][axis]),
        )
    return 2 * out[out_axes[0]] * out[out_axes[1]] * kernel[kernel_axes[1]] * pairs


def _pairs(
    sizes: tuple[int, int, int], *, stride: int, padding: int, dilations: tuple[int, int]
) -> int:
    """Returns how many pairs of output and kernel element meet the image, along one axis."""
    image, kernel, out = sizes
    at = np.arange(out)[:, None] * stride + np.arange(kernel) * dilations[1] - padding
    return int(np.sum((at >= 0) & (at <= (image - 1) * dilations[0]) & (at % dilations[0] == 0)))
