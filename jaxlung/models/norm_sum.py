"""BatchNorm, sums of several of them, and ReLU, with few passes over their arrays.

The backward pass sums the masked gradient and its products with the centred arrays over each
channel, and then writes the gradients of the arrays. XLA would store the mask or the masked
gradient between these two passes, which takes a GPU longer than computing it again.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import lanes, normalization

RUN = 16  # Voxels of a row that one thread of a GPU adds up.


class Normed(NamedTuple):
    """An array and what BatchNorm makes of it: `(x - mean) * rstd * scale + bias`.

    Attributes:
        x: [B, ..., C] or [B, ..., D C] with D slices in lanes, output of a convolution.
        mean: [C] float32.
        rstd: [C] float32, 1 / sqrt(variance + epsilon).
        scale: [C] float32 parameter.
        bias: [C] float32 parameter.
        of_batch: [] float32; 1 if mean and rstd are those of `x`, so that the gradient of `x` also
            flows through them; 0 if they are constants.
    """

    x: jax.Array
    mean: jax.Array
    rstd: jax.Array
    scale: jax.Array
    bias: jax.Array
    of_batch: jax.Array


class BatchStatistics(normalization.BatchNorm):
    """A `normalization.BatchNorm` that leaves it to `add_relu` to normalise.

    Attributes:
        slices: how often the C channels follow each other in the last axis of its input; above 1
            for volumes with slices in lanes (see `lanes`).
    """

    slices: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool) -> Normed:
        """Returns `x` [B, ..., slices C], with its own statistics or with the running ones."""
        shape = (x.shape[-1] // self.slices,)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        now = mean.value, var.value
        if not use_running_average:
            now = normalization.statistics(jax.lax.stop_gradient(x), self.slices)
            if not self.is_initializing():
                for running, value in zip((mean, var), now, strict=True):
                    momentum = normalization.MOMENTUM
                    running.value = momentum * running.value + (1 - momentum) * value
        rstd = jax.lax.rsqrt(now[1] + normalization.EPSILON)
        return Normed(x, now[0], rstd, scale, bias, jnp.float32(not use_running_average))


@jax.custom_vjp
def add_relu(terms: tuple[Normed, ...], rest: jax.Array | None = None) -> jax.Array:
    """Returns `relu(sum of the normalised terms + rest)`, computed in float32.

    Args:
        terms: one or more arrays of the same shape.
        rest: an array of that shape which is added as it is, or None.

    Returns:
        An array of that shape and of the type of the first one.
    """
    return nn.relu(_sum(terms, rest)).astype(terms[0].x.dtype)


_Arguments = tuple[tuple[Normed, ...], jax.Array | None]


def _forward(
    terms: tuple[Normed, ...], rest: jax.Array | None = None
) -> tuple[jax.Array, _Arguments]:
    return add_relu(terms, rest), (terms, rest)


def _backward(arguments: _Arguments, gradient: jax.Array) -> _Arguments:
    terms, rest = arguments
    sums = jax.lax.platform_dependent(terms, rest, gradient, cuda=_sums_on_cuda, default=_sums)
    channels = terms[0].bias.size
    if gradient.shape[-1] > channels:  # slices in lanes
        sums = tuple(jnp.sum(each.reshape(-1, channels), axis=0) for each in sums)
    # What both passes compute isn't stored, as XLA can't know that it is the same.
    terms, (bias, *products) = _apart(terms, sums)
    masked = _masked(terms, rest, gradient)
    count = gradient.size // channels
    gradients = []
    for term, product in zip(terms, products, strict=True):
        level = lanes.row(term.of_batch * bias / count, masked)
        slope = lanes.row(term.of_batch * product * jnp.square(term.rstd) / count, masked)
        x = (masked - level - _centred(term) * slope) * lanes.row(term.scale * term.rstd, masked)
        zero = jnp.zeros_like(bias)
        gradients.append(
            Normed(
                x=x.astype(term.x.dtype),
                mean=zero,
                rstd=zero,
                scale=product * term.rstd,
                bias=bias,
                of_batch=jnp.zeros_like(term.of_batch),
            )
        )
    return tuple(gradients), None if rest is None else masked.astype(rest.dtype)


add_relu.defvjp(_forward, _backward)


def _sums(
    terms: tuple[Normed, ...], rest: jax.Array | None, gradient: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns the sums over all axes but the last of the masked gradient, alone and times terms."""
    axes = tuple(range(gradient.ndim - 1))
    masked = _masked(terms, rest, gradient)
    return tuple(jnp.sum(x, axes) for x in (masked, *(masked * _centred(t) for t in terms)))


def _sums_on_cuda(
    terms: tuple[Normed, ...], rest: jax.Array | None, gradient: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns `_sums` by a single pass over the arrays.

    XLA computes at most two such sums in one kernel: three don't fit into the 48 KiB of shared
    memory. So for more of them each thread adds up a run of voxels first.
    """
    axes = tuple(range(gradient.ndim - 1))
    arrays = [_masked(terms, rest, gradient)]
    for i in range(len(terms)):
        # A mask for each of them: XLA would store one that they share.
        terms, _ = _apart(terms, ())
        arrays.append(_masked(terms, rest, gradient) * _centred(terms[i]))
    if len(arrays) > 2:
        run = math.gcd(RUN, gradient.shape[-2])
        runs = [x.reshape(*x.shape[:-2], -1, run, x.shape[-1]) for x in arrays]
        # XLA would join both steps.
        arrays = jax.lax.optimization_barrier([jnp.sum(x, axis=-2) for x in runs])
    return tuple(jnp.sum(x, axes) for x in arrays)


def _apart(
    terms: tuple[Normed, ...], sums: tuple[jax.Array, ...]
) -> tuple[tuple[Normed, ...], tuple[jax.Array, ...]]:
    """Returns the same terms and sums, behind a barrier for all vectors."""
    vectors, sums = jax.lax.optimization_barrier(([term[1:] for term in terms], sums))
    return tuple(Normed(t.x, *v) for t, v in zip(terms, vectors, strict=True)), sums


def _masked(terms: tuple[Normed, ...], rest: jax.Array | None, gradient: jax.Array) -> jax.Array:
    """Returns the gradient in float32 where ReLU has let values through, and 0 elsewhere."""
    zero = jnp.zeros((), gradient.dtype)
    return jnp.where(_sum(terms, rest) > 0, gradient, zero).astype(jnp.float32)


def _sum(terms: tuple[Normed, ...], rest: jax.Array | None) -> jax.Array:
    first, *others = (
        _centred(term) * lanes.row(term.rstd * term.scale, term.x) + lanes.row(term.bias, term.x)
        for term in terms
    )
    total = sum(others, first)
    return total if rest is None else total + rest.astype(jnp.float32)


def _centred(term: Normed) -> jax.Array:
    return term.x.astype(jnp.float32) - lanes.row(term.mean, term.x)
