"""BatchNorm with the ReLU and the max-pooling after it, in as few passes over memory as they need.

Training on an accelerator waits for memory in these layers. So the backward pass keeps one large
array, the convolution's output x, and reads it and the incoming gradient twice: once for the two
sums of each channel, once for the gradient of x. Both times it computes the normalised values and
the sign of ReLU again. Differentiation by JAX stores them, or the masked gradient, and reads them
again: 7 passes in place of 5.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import pooling

# PyTorch's defaults; it writes the momentum as 0.1.
MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """BatchNorm over all axes but the last, perhaps with ReLU and 2 x 2 max-pooling after it.

    Statistics are float32, over the global batch. Parameters, statistics and values are those of
    `nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON)`. Unlike PyTorch's, the running variance is
    biased: over N values of a channel it is smaller by a factor of 1 - 1 / N.

    Attributes:
        relu: apply ReLU to the result.
        pool: also return the result after 2 x 2 max-pooling; only for images.
        dtype: type of the result; parameters and statistics are float32.
    """

    relu: bool = False
    pool: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool) -> Any:
        """Normalises an array.

        Args:
            x: [B, ..., C] of any float type; [B, H, W, C] with even H and W if `pool` is set.
            use_running_average: use the running statistics and leave them as they are; otherwise
                use the batch's and update the running ones.

        Returns:
            An array like `x`; with `pool`, a pair of that and of [B, H / 2, W / 2, C].
        """
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        if use_running_average:
            y = _apply(x, mean.value, _rstd(var.value), scale, bias, self.relu, self.dtype)
            return (y, pooling.max_pool_2x2(y)) if self.pool else y
        y, batch_mean, batch_var = normalize(x, scale, bias, self.relu, self.pool, self.dtype)
        if not self.is_initializing():
            mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * batch_mean
            var.value = MOMENTUM * var.value + (1 - MOMENTUM) * batch_var
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, pool: bool, dtype: str
) -> tuple[Any, jax.Array, jax.Array]:
    """Normalises every channel by its own mean and variance, with ReLU and pooling if wanted.

    Args:
        x: [B, ..., C] of any float type; [B, H, W, C] with even H and W if `pool` is set.
        scale: [C] float32.
        bias: [C] float32.
        relu: apply ReLU.
        pool: also return the result after 2 x 2 max-pooling.
        dtype: type of the result.

    Returns:
        `(x - mean) / sqrt(var + EPSILON) * scale + bias`, or a pair of that and its pooled form;
        then the mean and the biased variance of each channel, [C] float32. No gradient flows
        through these two.
    """
    return _forward(x, scale, bias, relu, pool, dtype)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, relu: bool, pool: bool, dtype: str
) -> Any:
    """Returns what `normalize` returns, and what its gradient needs."""
    mean, var = statistics(x)
    rstd = _rstd(var)
    y: Any = _apply(x, mean, rstd, scale, bias, relu, dtype)
    place = None
    if pool:
        # Of x, not of y: y may then be computed wherever it is needed, and need not be stored.
        windows = pooling.windows(x)
        pooled, place = pooling.largest(
            *(_apply(w, mean, rstd, scale, bias, relu, dtype) for w in windows)
        )
        y = y, pooled
    return (y, mean, var), (x, place, mean, rstd, scale, bias)


def _backward(relu: bool, pool: bool, dtype: str, residuals: Any, gradients: Any) -> Any:
    """Returns the gradients of `normalize` for x, scale and bias."""
    del dtype
    x, place, *vectors = residuals
    dy, _, _ = gradients
    count = x.size // x.shape[-1]

    def read(place: Any, vectors: Any) -> tuple[jax.Array, jax.Array]:
        """Returns the gradient behind ReLU and pooling, and the centred values."""
        mean, rstd, scale, bias = vectors
        centred = x.astype(jnp.float32) - _row(mean, x)
        grad = dy[0] + pooling.spread(place, dy[1]) if pool else dy
        if relu:
            # The sign of centred * factor + bias.
            active = centred * _row(rstd * scale, x) > _row(-bias, x)
            grad = jnp.where(active, grad, jnp.zeros((), grad.dtype))
        return grad.astype(jnp.float32), centred

    # Barriers keep the compiler from storing large arrays that one pass has in common with the
    # forward pass or with the other one; it would read more bytes than it saves products.
    place, vectors = jax.lax.optimization_barrier((place, vectors))
    grad, centred = read(place, vectors)
    dbias, dscale = jax.lax.platform_dependent(
        grad, grad * centred, cuda=_sums_in_one, default=_sums
    )
    dscale *= vectors[1]
    place, vectors, sums = jax.lax.optimization_barrier((place, vectors, (dbias, dscale)))
    _, rstd, scale, _ = vectors
    grad, centred = read(place, vectors)
    factor = rstd * scale
    offset, slope = factor * sums[0] / count, factor * rstd * sums[1] / count
    dx = grad * _row(factor, x) - (_row(offset, x) + centred * _row(slope, x))
    return dx.astype(x.dtype), dscale, dbias


normalize.defvjp(_forward, _backward)


def statistics(x: jax.Array, slices: int = 1) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the biased variance of each channel.

    Args:
        x: [B, ..., slices C].
        slices: how often the channels follow each other in the last axis.

    Returns:
        [C] float32 each.
    """
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    mean, mean_square = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
    if slices > 1:
        mean, mean_square = (jnp.mean(each.reshape(slices, -1), 0) for each in (mean, mean_square))
    # Rounding may make the difference negative.
    return mean, jnp.maximum(mean_square - jnp.square(mean), 0.0)


def _sums(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of two [B, ..., C] over all axes but the last: [C] each."""
    axes = tuple(range(a.ndim - 1))
    return jnp.sum(a, axes), jnp.sum(b, axes)


def _sums_in_one(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `_sums` by one sum of complex numbers.

    XLA reckons what both sums have in common twice, finds that too expensive to fuse, and stores
    it. With one sum it reads `a` and `b` and stores nothing.
    """
    sums = jnp.sum(jax.lax.complex(a, b), tuple(range(a.ndim - 1)))
    return jnp.real(sums), jnp.imag(sums)


def _rstd(var: jax.Array) -> jax.Array:
    return jax.lax.rsqrt(var + EPSILON)


def _apply(
    x: jax.Array,
    mean: jax.Array,
    rstd: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    relu: bool,
    dtype: str,
) -> jax.Array:
    y = ((x - _row(mean, x)) * _row(rstd * scale, x) + _row(bias, x)).astype(dtype)
    return nn.relu(y) if relu else y


def _row(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Returns [C] as [1, ..., 1, C], of the rank of `x`."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
