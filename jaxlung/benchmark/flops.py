"""FLOPs of a traced program: two for every multiply-add of its convolutions and matrix products.

Counted before compilation, so they are the same on every device. XLA's own counts of compiled
programs miss what GPUs leave to libraries, and the body of a loop counts once, however often it
runs.
"""

import math
from collections.abc import Iterator

import numpy as np
from jax.extend import core


def count(jaxpr: core.Jaxpr) -> int:
    """FLOPs of a program, over all devices.

    Products with padding and with the holes of dilated arrays are left out, as XLA does; so is
    everything that is no product (normalisation, augmentation, the optimizer). Of branches the
    most expensive counts, the body of a `while` loop once, as nobody knows how often it runs.

    Args:
        jaxpr: of `jax.jit(f).trace(...).jaxpr.jaxpr`.
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
    """The programs inside an operation: bodies of loops, branches, called functions."""
    for param in eqn.params.values():
        for part in param if isinstance(param, tuple | list) else (param,):
            if isinstance(part, core.ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, core.Jaxpr):
                yield part


def _product(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return 2 * eqn.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)


def _convolution(eqn: core.JaxprEqn) -> int:
    """FLOPs of forward and both gradients: in JAX all three are such convolutions."""
    image, kernel = (var.aval.shape for var in eqn.invars)
    out = eqn.outvars[0].aval.shape
    image_axes, kernel_axes, out_axes = eqn.params["dimension_numbers"]
    # Axes are (batch, features, space ...), of the kernel (features out, features in, space ...).
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
    """Pairs of an output and a kernel element, along an axis, that meet an element of the image."""
    image, kernel, out = sizes
    at = np.arange(out)[:, None] * stride + np.arange(kernel) * dilations[1] - padding
    return int(np.sum((at >= 0) & (at <= (image - 1) * dilations[0]) & (at % dilations[0] == 0)))
