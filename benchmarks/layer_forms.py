"""Layers in the textbook form, in the form that the networks use, and in slower forms."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import layers, layers_3d
from jaxlung.training import compiler_options

Shape = tuple[int, ...]
Form = Callable[..., jax.Array]
AXES = ("NHWC", "HWIO", "NHWC")
WINDOW = (2, 2)
# Eigen packs 16 float32 at a time along the innermost axis that a convolution sums over.
LANES = 16


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer at one size.

    Attributes:
        name: name of the layer in headings.
        used: name of the form that the networks use.
        forms: name -> function of the arguments; the first is the textbook form.
        shapes: shapes of the arguments, which all have the same dtype; the input is first.
        options: name -> compiler options of XLA for this form, if any.
    """

    name: str
    used: str
    forms: Mapping[str, Form]
    shapes: tuple[Shape, ...]
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def max_pool(x: Shape, dtype: str) -> Layer:
    """Returns 2 x 2 max-pooling of x [B, H, W, C]."""
    del dtype

    def by_reshape(x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return jnp.max(windows, axis=(2, 4))

    forms = {
        "nn.max_pool": functools.partial(nn.max_pool, window_shape=WINDOW, strides=WINDOW),
        "maxima of slices": layers.max_pool_2x2,
        "maximum over a reshape": by_reshape,
    }
    return Layer("2 x 2 max-pooling", "maxima of slices", forms, (x,))


def upsample(x: Shape, dtype: str) -> Layer:
    """Returns nearest x2 up-sampling of x [B, H, W, C]."""
    del dtype

    def by_resize(x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "nearest")

    by_broadcast = functools.partial(layers.upsample, factors=(2, 2))
    forms = {"jax.image.resize": by_resize, "broadcast": by_broadcast}
    return Layer("Nearest x2 up-sampling", "broadcast", forms, (x,))


def up_conv(x: Shape, dtype: str) -> Layer:
    """Returns the 2 x 2 transposed convolution of stride 2 that halves the channels of x."""
    features = x[-1] // 2

    def textbook(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        # JAX takes the kernel of the convolution over the dilated input, which is mirrored.
        y = jax.lax.conv_transpose(x, kernel[::-1, ::-1], WINDOW, "VALID", dimension_numbers=AXES)
        return y + bias.reshape(1, 1, 1, -1)

    forms = {
        "lax.conv_transpose": textbook,
        "dense, depth to space": _module(layers.UpConv2x2(features, dtype)),
    }
    shapes = (x, (2, 2, x[-1], features), (features,))
    return Layer("2 x 2 transposed convolution", "dense, depth to space", forms, shapes)


def upsample_conv(x: Shape, dtype: str) -> Layer:
    """Returns nearest x2 up-sampling and a 2 x 2 convolution that halves the channels of x."""
    features = x[-1] // 2

    def textbook(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        up = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return conv(up, kernel) + bias.reshape(1, 1, 1, -1)

    forms = {
        "repeat, convolution": textbook,
        "dense, shift and add": _module(layers.UpsampleConv2x2(features, dtype)),
    }
    shapes = (x, (2, 2, x[-1], features), (features,))
    return Layer("Up-sampling + 2 x 2 convolution", "dense, shift and add", forms, shapes)


def _module(module: nn.Module) -> Form:
    """Returns a module that has a kernel and a bias as a function of them."""

    def apply(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return module.apply({"params": {"kernel": kernel, "bias": bias}}, x)

    return apply


def concat_conv(x: Shape, dtype: str) -> Layer:
    """Returns the 3 x 3 convolution over a skip and an up-sampled array, each [B, H, W, C]."""
    del dtype
    channels = x[-1]

    def textbook(skip: jax.Array, up: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv(jnp.concatenate([skip, up], axis=-1), kernel)

    def as_sum(skip: jax.Array, up: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv(skip, kernel[:, :, :channels]) + conv(up, kernel[:, :, channels:])

    forms = {"concatenation": textbook, "sum of two convolutions": as_sum}
    shapes = (x, x, (3, 3, 2 * channels, channels))
    return Layer("3 x 3 convolution over a concatenation", "concatenation", forms, shapes)


def norm_relu(x: Shape, dtype: str) -> Layer:
    """Returns BatchNorm with the statistics of the batch, in float32, and ReLU."""

    def textbook(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        values, (scale, bias) = x.astype(jnp.float32), _along_channels(scale, bias)
        differences = values - values.mean((0, 1, 2), keepdims=True)
        variance = jnp.mean(jnp.square(differences), axis=(0, 1, 2), keepdims=True)
        y = differences * jax.lax.rsqrt(variance + 1e-5) * scale + bias
        return nn.relu(y).astype(dtype)

    def folded(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        values, (scale, bias) = x.astype(jnp.float32), _along_channels(scale, bias)
        mean = values.mean((0, 1, 2), keepdims=True)
        variance = jnp.square(values).mean((0, 1, 2), keepdims=True) - jnp.square(mean)
        factor = jax.lax.rsqrt(variance + 1e-5) * scale
        return nn.relu(values * factor + (bias - mean * factor)).astype(dtype)

    forms = {
        "two passes": textbook,
        "nn.BatchNorm": functools.partial(_flax_norm_relu, dtype=dtype),
        "one factor and one term": folded,
    }
    return Layer("BatchNorm + ReLU", "nn.BatchNorm", forms, (x, (x[-1],), (x[-1],)))


def _flax_norm_relu(x: jax.Array, scale: jax.Array, bias: jax.Array, *, dtype: str) -> jax.Array:
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=dtype)
    zeros = jnp.zeros_like(scale)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": zeros, "var": zeros},
    }
    return nn.relu(norm.apply(variables, x, mutable=["batch_stats"])[0])


def _along_channels(*values: jax.Array) -> list[jax.Array]:
    return [value.astype(jnp.float32).reshape(1, 1, 1, -1) for value in values]


def conv_3x3(x: Shape, dtype: str) -> Layer:
    """Returns the 3 x 3 convolution that keeps the size and the channels of x [B, H, W, C]."""
    del dtype
    by_blocks = with_weight_gradient(row_blocks)
    forms = {
        "convolution": conv,
        "convolution by Eigen": conv,
        "weights from nine products": with_weight_gradient(nine_products),
        "weights from im2col": with_weight_gradient(im2col),
        "weights from rows times columns": with_weight_gradient(rows_by_columns),
        "weights from blocks of rows": by_blocks,
        "weights from blocks of rows by Eigen": by_blocks,
    }
    shapes = (x, (3, 3, x[-1], x[-1]))
    options = {name: compiler_options.BY_EIGEN for name in forms if name.endswith("by Eigen")}
    return Layer("3 x 3 convolution", "convolution", forms, shapes, options)


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] with [A, A, C, F] to [B, H, W, F] with stride 1."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=AXES)


def with_weight_gradient(weight_gradient: Form) -> Form:
    """Returns `conv` with `weight_gradient(x, dy)` as the gradient of a 3 x 3 kernel."""

    @jax.custom_vjp
    def custom(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv(x, kernel)

    def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return conv(x, kernel), (x, kernel)

    def backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, kernel = saved
        (dx,) = jax.vjp(lambda x: conv(x, kernel), x)[1](dy)
        return dx, weight_gradient(x, dy)

    custom.defvjp(forward, backward)
    return custom


def nine_products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes one matrix product for each tap: shifted `x`, transposed, times `dy`."""
    taps = [_product(view, dy) for view in _shifted(x)]
    return jnp.stack(taps).reshape(3, 3, x.shape[-1], -1)


def im2col(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes one matrix product with the nine shifted views side by side."""
    views = jnp.concatenate(_shifted(x), axis=-1)
    return _product(views, dy).reshape(3, 3, x.shape[-1], -1)


def rows_by_columns(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes one matrix product with x shifted three times along rows and dy along columns."""
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    high = jnp.pad(dy, ((0, 0), (1, 1), (0, 0), (0, 0)))
    along_row = jnp.concatenate([wide[:, :, b : b + width] for b in range(3)], axis=-1)
    along_column = jnp.concatenate([high[:, 2 - a : 2 - a + height] for a in range(3)], axis=-1)
    taps = _product(along_row, along_column).reshape(3, x.shape[-1], 3, -1)
    return taps.transpose(2, 0, 1, 3)


def row_blocks(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Computes XLA's form, batch and channels exchanged, with blocks of rows as extra images."""
    batch, height, width, channels = x.shape
    blocks = 1
    while batch * blocks < LANES and height % (2 * blocks) == 0:
        blocks *= 2
    rows = height // blocks
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    seen = [padded[:, i * rows : i * rows + rows + 2] for i in range(blocks)]
    images = jnp.stack(seen, axis=1).reshape(-1, rows + 2, width, channels)
    return jax.lax.conv_general_dilated(
        images,
        dy.reshape(-1, rows, width, dy.shape[-1]),
        (1, 1),
        ((0, 0), (1, 1)),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
    )


def _shifted(x: jax.Array) -> list[jax.Array]:
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, a : a + height, b : b + width] for a in range(3) for b in range(3)]


def _product(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Multiplies [B, H, W, M] and [B, H, W, N] to [M, N]."""
    return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


def conv_3x3x3(x: Shape, dtype: str) -> Layer:
    """Returns the 3 x 3 x 3 convolution that keeps size and channels of x [B, D, H, W, C]."""
    del dtype
    ones = layers_3d.ONES

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, ones, "SAME", dimension_numbers=layers_3d.AXES
        )

    def sum_of_three(x: jax.Array, kernel: jax.Array) -> jax.Array:
        batch, depth, *plane = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        seen = [padded[:, tap : tap + depth].reshape(-1, *plane) for tap in range(3)]
        y = sum(conv(slices, kernel[tap]) for tap, slices in enumerate(seen))
        return y.reshape(batch, depth, *y.shape[1:])

    ours = functools.partial(layers_3d.conv_3x3x3, strides=ones, rates=ones)
    forms = {
        "3D convolution": plain,
        "layers_3d.conv_3x3x3": ours,
        "layers_3d.conv_3x3x3 by Eigen": ours,
        "sum of three 2D convolutions": sum_of_three,
    }
    shapes, options = (
        (x, (3, 3, 3, x[-1], x[-1])),
        {"layers_3d.conv_3x3x3 by Eigen": compiler_options.BY_EIGEN},
    )
    return Layer("3 x 3 x 3 convolution", "layers_3d.conv_3x3x3", forms, shapes, options)


def up_conv_3d(x: Shape, dtype: str) -> Layer:
    """Returns the 2 x 2 x 2 transposed convolution that halves the channels of x."""
    strides, features = (2, 2, 2), x[-1] // 2

    def textbook(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        flipped = kernel[::-1, ::-1, ::-1]
        y = jax.lax.conv_transpose(x, flipped, strides, "VALID", dimension_numbers=layers_3d.AXES)
        return y + bias.reshape(1, 1, 1, 1, -1)

    forms = {
        "lax.conv_transpose": textbook,
        "dense, depth to space": _module(layers_3d.UpConv3D(features, strides, dtype)),
    }
    shapes = (x, (*strides, x[-1], features), (features,))
    return Layer("2 x 2 x 2 transposed convolution", "dense, depth to space", forms, shapes)


PLANAR = (max_pool, upsample, up_conv, upsample_conv, concat_conv, norm_relu)
VOLUMETRIC = (conv_3x3x3, up_conv_3d)


def all_layers(
    planar: Shape, convs: tuple[Shape, ...], volumetric: Shape, dtype: str
) -> list[Layer]:
    """Returns all layers for inputs of these shapes; the 3 x 3 convolution for each of `convs`."""
    return [
        *(make(planar, dtype) for make in PLANAR),
        *(conv_3x3(shape, dtype) for shape in convs),
        *(make(volumetric, dtype) for make in VOLUMETRIC),
    ]
