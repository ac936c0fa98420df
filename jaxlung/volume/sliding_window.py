"""A network over a whole volume: overlapping windows, blended, all on the device.

The volume goes to the device once. Windows are cut there in batches of one size, so that the
network compiles once for all volumes, and its answers are added there, so that one array returns.
Of the programs around it only the cheap ones that cut and add depend on the volume's shape, and
shapes are rounded up to `MULTIPLES`, so that few of them are compiled.

Memory for 630 x 630 x 300 voxels, rounded up to 304 x 640 x 640: 249 MB of int16, 125 MB of uint8
and 498 MB of float32 probabilities, 872 MB in all, besides the windows of a batch and what the
network itself needs.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MULTIPLES = (16, 64, 64)  # of D, H and W on the device
LEAST_WEIGHT = 1e-3  # Along one axis, of 1 at the window's middle.

Forward = Callable[[dict[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class OnDevice:
    """A volume that `prepare` brought to the device, for any number of `predict`.

    Attributes:
        arrays: what the network looks at by name, [D, H, W] each, continued by their last voxels.
        shape: of the volume itself.
        sharding: where it lives; None for the default device.
    """

    arrays: dict[str, jax.Array]
    shape: tuple[int, ...]
    sharding: jax.sharding.Sharding | None


def prepare(
    arrays: Mapping[str, np.ndarray],
    window: Sequence[int],
    sharding: jax.sharding.Sharding | None = None,
) -> OnDevice:
    """Brings a volume to the device, padded as `predict` needs it.

    Args:
        arrays: see `predict`; they are copied.
        window: voxels along D, H and W, at least those of any window to come.
        sharding: see `predict`.

    Raises:
        ValueError: arrays that are not 3D or differ in shape; a bad window.
    """
    shape = _shape_of(arrays)
    _check_window(window)
    padded = tuple(
        math.ceil(max(size, length) / multiple) * multiple
        for size, length, multiple in zip(shape, window, MULTIPLES, strict=True)
    )
    widths = [(0, after - before) for before, after in zip(shape, padded, strict=True)]
    on_host = {name: np.pad(array, widths, mode="edge") for name, array in arrays.items()}
    return OnDevice(jax.device_put(on_host, sharding), shape, sharding)


def predict(
    forward: Forward,
    arrays: Mapping[str, np.ndarray] | OnDevice,
    *,
    window: Sequence[int],
    overlap: float,
    batch_size: int,
    mirror_axes: Sequence[int] = (),
    sharding: jax.sharding.Sharding | None = None,
) -> np.ndarray:
    """Probabilities of a whole volume, blended from windows as nnU-Net does (Isensee, 2021).

    Windows that overlap are averaged with Gaussian weights, sigma an eighth of the window, so that
    a voxel is mostly judged by windows that see what is around it. An axis thinner than the window
    is continued by its last voxels, and cropped back.

    Args:
        forward: a jitted function, made once by the caller: windows of `arrays`, each
            [N, *window], to [N, *window] float32 probabilities. N is always `batch_size`.
        arrays: what the network looks at by name, each [D, H, W], any type; or, to keep them on the
            device between calls, what `prepare` made of them.
        window: voxels along D, H and W.
        overlap: share of a window that the next one covers again, at least, in [0, 1).
        batch_size: windows at a time.
        mirror_axes: of 0, 1, 2: every window is also judged mirrored along each combination of
            them, at 2 ** len(mirror_axes) times the cost, and the answers averaged.
        sharding: where the volume lives, None for the default device; `Shardings.replicated` for a
            `forward` over a mesh, which splits the windows itself by a sharding constraint. A
            prepared volume stays where it is.

    Returns:
        [D, H, W] float32 in [0, 1].

    Raises:
        ValueError: arrays that are not 3D or differ in shape, or were prepared for a smaller
            window; settings out of range; a `forward` that returns another shape.
    """
    _check_settings(overlap, batch_size, mirror_axes)
    volume = arrays if isinstance(arrays, OnDevice) else prepare(arrays, window, sharding)
    shape, padded = volume.shape, next(iter(volume.arrays.values())).shape
    window = _check_window(window, padded)
    put = functools.partial(jax.device_put, device=volume.sharding)
    starts = [_starts(*axis, overlap) for axis in zip(shape, window, strict=True)]
    weights = [_gaussian(length) for length in window]
    on_device = put(weights)
    combinations = _combinations(mirror_axes)

    total = put(_zeros(padded))
    for corners, share in _batches(starts, batch_size):
        corners, share = put((corners, share / len(combinations)))
        batch = _cut(volume.arrays, corners, window=window)
        probs = forward(batch)
        if probs.shape != (batch_size, *window):
            raise ValueError(
                f"sliding window: forward: got {probs.shape}, want {(batch_size, *window)}."
            )
        for axes in combinations[1:]:
            probs = _plus_flipped(probs, forward(_flip(batch, axes=axes)), axes=axes)
        total = _add(total, probs, corners, share, on_device)
    sums = [_sums(*axis) for axis in zip(padded, starts, weights, strict=True)]
    probs = jax.device_get(_divide(total, put(sums)))
    return probs[: shape[0], : shape[1], : shape[2]].copy()


def num_windows(shape: Sequence[int], window: Sequence[int], overlap: float) -> int:
    """How many windows `predict` cuts from a volume of this shape, padding of batches left out."""
    return math.prod(len(_starts(*axis, overlap)) for axis in zip(shape, window, strict=True))


def _starts(size: int, length: int, overlap: float) -> np.ndarray:
    """First voxels of windows along one axis, [K] int32: from 0 to flush with the end.

    As few as steps of at most `length * (1 - overlap)` allow, spread evenly.
    """
    step = max(1, round(length * (1 - overlap)))
    last = max(0, size - length)
    count = math.ceil(last / step) + 1
    # Rounded down, steps of at most a whole number stay so: no voxel is skipped.
    return (np.arange(count) * last // max(1, count - 1)).astype(np.int32)


def _gaussian(length: int) -> np.ndarray:
    """Weights along one axis of a window, [length] float32 in [LEAST_WEIGHT, 1]."""
    from_middle = np.arange(length) - (length - 1) / 2
    weights = np.exp(-0.5 * (from_middle / (length / 8)) ** 2)
    return np.maximum(weights, LEAST_WEIGHT).astype(np.float32)


def _sums(size: int, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights of all windows along one axis, [size] float32; 1 where no window is.

    The windows are all combinations of starts and a weight is a product over axes, so the sum of
    weights at a voxel is the product of three of these.
    """
    sums = np.zeros(size, np.float64)
    for start in starts:
        sums[start : start + len(weights)] += weights
    return np.where(sums > 0, sums, 1).astype(np.float32)


def _batches(
    starts: Sequence[np.ndarray], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Corners of windows [batch_size, 3] int32, and what each counts [batch_size] float32, 0 or 1.

    The last batch is filled up with windows at the origin that count 0.
    """
    corners = np.array(list(itertools.product(*starts)), np.int32)
    for first in range(0, len(corners), batch_size):
        part = corners[first : first + batch_size]
        missing = batch_size - len(part)
        yield (
            np.pad(part, [(0, missing), (0, 0)]),
            np.pad(np.ones(len(part), np.float32), (0, missing)),
        )


def _combinations(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the axes, from none to all."""
    counts = range(len(axes) + 1)
    return [tuple(c) for count in counts for c in itertools.combinations(axes, count)]


@functools.partial(jax.jit, static_argnames="shape")
def _zeros(shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


@functools.partial(jax.jit, static_argnames="window")
def _cut(
    volumes: dict[str, jax.Array], corners: jax.Array, *, window: tuple[int, ...]
) -> dict[str, jax.Array]:
    """[D, H, W] each to [N, *window] at corners [N, 3]."""

    def cut(volume: jax.Array) -> jax.Array:
        return jax.vmap(lambda corner: jax.lax.dynamic_slice(volume, corner, window))(corners)

    return jax.tree.map(cut, volumes)


@functools.partial(jax.jit, static_argnames="axes")
def _flip(batch: Any, *, axes: tuple[int, ...]) -> Any:
    """Windows [N, *window], one array or a dict of them, mirrored along axes of the window."""
    return jax.tree.map(lambda x: jnp.flip(x, [axis + 1 for axis in axes]), batch)


@functools.partial(jax.jit, static_argnames="axes")
def _plus_flipped(probs: jax.Array, mirrored: jax.Array, *, axes: tuple[int, ...]) -> jax.Array:
    """Adds answers to mirrored windows, mirrored back."""
    return probs + _flip(mirrored, axes=axes)


@functools.partial(jax.jit, donate_argnames="total")
def _add(
    total: jax.Array,
    probs: jax.Array,
    corners: jax.Array,
    share: jax.Array,
    weights: Sequence[jax.Array],
) -> jax.Array:
    """Adds windows [N, *window], each times its share, to the volume, in place.

    One after the other: windows of a batch overlap, and sums in one order are the same every time.
    """
    along_d, along_h, along_w = weights
    weight = along_d[:, None, None] * along_h[None, :, None] * along_w[None, None, :]
    probs = probs * weight[None] * share[:, None, None, None]

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        here = jax.lax.dynamic_slice(total, corners[i], weight.shape)
        return jax.lax.dynamic_update_slice(total, here + probs[i], corners[i])

    return jax.lax.fori_loop(0, len(probs), add, total)


@functools.partial(jax.jit, donate_argnames="total")
def _divide(total: jax.Array, sums: Sequence[jax.Array]) -> jax.Array:
    """By the weights of all windows, in place."""
    along_d, along_h, along_w = sums
    return total / along_d[:, None, None] / along_h[None, :, None] / along_w[None, None, :]


def _shape_of(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    shapes = {name: array.shape for name, array in arrays.items()}
    shape = next(iter(shapes.values()), ())
    if len(shape) != 3 or 0 in shape or len(set(shapes.values())) > 1:
        raise ValueError(f"sliding window: got {shapes}, want volumes of one shape [D, H, W].")
    return shape


def _check_window(
    window: Sequence[int], most: Sequence[float] = (math.inf, math.inf, math.inf)
) -> tuple[int, ...]:
    if len(window) != 3 or min(window) < 1:
        raise ValueError(f"sliding window: window: got {window}, want 3 counts above 0.")
    if any(length > limit for length, limit in zip(window, most, strict=True)):
        raise ValueError(
            f"sliding window: window: got {window}, want at most {most}, as the volume is prepared."
        )
    return tuple(window)


def _check_settings(overlap: float, batch_size: int, mirror_axes: Sequence[int]) -> None:
    if not 0 <= overlap < 1:
        raise ValueError(f"sliding window: overlap: got {overlap}, want 0 or more and below 1.")
    if batch_size < 1:
        raise ValueError(f"sliding window: batch_size: got {batch_size}, want 1 or more.")
    if len(set(mirror_axes)) < len(mirror_axes) or not set(mirror_axes) <= {0, 1, 2}:
        raise ValueError(
            f"sliding window: mirror_axes: got {mirror_axes}, want some of 0, 1, 2, each once."
        )
