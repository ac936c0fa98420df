"""BatchNorm, and the ReLU after it, with gradients that pass over the activations as seldom as they can.

A convolution's output x is the only large array that the backward pass keeps. It needs two passes
over x and the incoming gradient: one for the two sums of each channel, one that writes the
gradient of x. Both compute the normalised values and the sign of ReLU again from x.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """BatchNorm over all axes but the last, with float32 statistics over the global batch.

    Its values, parameters and statistics are those of `nn.BatchNorm` with `MOMENTUM` and `EPSILON`.

    Attributes:
        relu: apply ReLU to the result.
        dtype: type of the result; parameters and statistics are float32.
    """

    relu: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool) -> jax.Array:
        """Maps [B, ..., C] to the same shape.

        Args:
            x: [B, ..., C] of any float type.
            use_running_average: use the running statistics and leave them as they are; otherwise
                use the batch's and update the running ones.
        """
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        if use_running_average:
            vectors = mean.value, jax.lax.rsqrt(var.value + EPSILON), scale, bias
            return _normalize(x, *vectors, self.relu, self.dtype)
        y, batch_mean, batch_var = normalize(x, scale, bias, self.relu, self.dtype)
        if not self.is_initializing():
            mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
            var.value = MOMENTUM * var.value + (1 - MOMENTUM) * batch_var
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, dtype: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns `(x - mean) / sqrt(var + EPSILON) * scale + bias`, perhaps with ReLU, and statistics.

    Args:
        x: [B, ..., C] of any float type.
        scale: [C] float32.
        bias: [C] float32.
        relu: apply ReLU to the result.
        dtype: type of the result.

    Returns:
        The result, of the shape of `x`, and the mean and the biased variance of each channel of
        `x`, [C] float32, through which no gradient flows.
    """
    return _forward(x, scale, bias, relu, dtype)[0]


def _forward(x, scale, bias, relu, dtype):
    mean, var = _statistics(x)
    rstd = jax.lax.rsqrt(var + EPSILON)
    y = _normalize(x, mean, rstd, scale, bias, relu, dtype)
    return (y, mean, var), (x, mean, rstd, scale, bias)


def _backward(relu, dtype, residuals, gradients):
    x, mean, rstd, scale, bias = residuals
    dy = gradients[0]
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]

    def masked(mean, rstd, scale, bias):
        g = dy
        if relu:
            y = _normalize(x, mean, rstd, scale, bias, False, dtype)
            g = jnp.where(y > 0, dy, jnp.zeros((), dy.dtype))
        return g.astype(jnp.float32), x.astype(jnp.float32) - _row(mean, x)

    g, centred = masked(mean, rstd, scale, bias)
    dbias = jnp.sum(g, axes)
    dscale = jnp.sum(g * centred, axes) * rstd
    mean, rstd, scale, bias, dbias, dscale = jax.lax.optimization_barrier((mean, rstd, scale, bias, dbias, dscale))
    g, centred = masked(mean, rstd, scale, bias)
    slope = rstd * scale
    a = slope * dbias / count
    b = slope * rstd * dscale / count
    dx = g * _row(slope, x) - (_row(a, x) + centred * _row(b, x))
    return dx.astype(x.dtype), dscale, dbias


normalize.defvjp(_forward, _backward)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the biased variance of each channel, by one pass: [C] float32 each."""
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    mean, mean_square = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
    return mean, jnp.maximum(0.0, mean_square - jnp.square(mean))


def _normalize(x, mean, rstd, scale, bias, relu, dtype):
    y = ((x - _row(mean, x)) * _row(rstd * scale, x) + _row(bias, x)).astype(dtype)
    return nn.relu(y) if relu else y


def _row(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [C] in the rank of `x`, as rank promotion is an error in the tests."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
