"""Runs a network over a whole volume by overlapping windows, blended, all on the device.

The volume goes to the device once, laid out as in `rows`. Windows are cut there in batches of one
size, and the network's outputs are added there and divided by the windows' weights, so that a
single array is left.

No program is compiled for one volume's shape: the network is compiled once, the programs that cut,
add and divide once for each size of `rows`.

Memory for 600 x 512 x 512 voxels, whose rows are rounded up to 2**19: 537 MB of int16, 268 MB of
uint8 and 1,074 MB of float32 probabilities, 1.9 GB in all, besides the windows of a batch and the
network's own needs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.volume import rows, window_grid

MOST_VOXELS = 2**31  # as far as tested

Forward = Callable[[dict[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class OnDevice:
    """A volume on the device, made by `prepare` for any number of calls of `predict`.

    Attributes:
        arrays: the network's inputs by name, [R, C] each: the padded volume as `rows.send` lays it
            out.
        shape: shape of the volume itself.
        padded: shape of the padded volume, which repeats its last voxels.
        sharding: placement of the arrays; None for the default device.
    """

    arrays: dict[str, jax.Array]
    shape: tuple[int, ...]
    padded: tuple[int, ...]
    sharding: jax.sharding.Sharding | None


def prepare(
    arrays: Mapping[str, np.ndarray],
    window: Sequence[int],
    sharding: jax.sharding.Sharding | None = None,
) -> OnDevice:
    """Pads a volume as `predict` needs it and copies it to the device.

    Args:
        arrays: see `predict`.
        window: voxels along D, H and W, at least those of any window used later.
        sharding: see `predict`.

    Raises:
        ValueError: the arrays are not 3D, differ in shape or are too large, or the window is bad.
    """
    shape = _shape_of(arrays)
    padded = tuple(max(pair) for pair in zip(shape, _check_window(window), strict=True))
    if math.prod(padded) > MOST_VOXELS:
        raise ValueError(f"sliding window: got {padded} voxels, want {MOST_VOXELS} at most.")
    sent = {name: rows.send(_pad(array, padded), sharding) for name, array in arrays.items()}
    return OnDevice(sent, shape, padded, sharding)


def predict(
    forward: Forward,
    arrays: Mapping[str, np.ndarray] | OnDevice,
    *,
    window: Sequence[int],
    overlap: float,
    batch_size: int,
    mirror_axes: Sequence[int] = (),
    within: np.ndarray | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> np.ndarray:
    """Returns probabilities of a whole volume: those of `blend`, on the host.

    The arguments are those of `blend`.

    Returns:
        [D, H, W] float32 in [0, 1].
    """
    volume = arrays if isinstance(arrays, OnDevice) else prepare(arrays, window, sharding)
    probs = blend(
        forward,
        volume,
        window=window,
        overlap=overlap,
        batch_size=batch_size,
        mirror_axes=mirror_axes,
        within=within,
    )
    return rows.fetch(probs, volume.padded)[tuple(map(slice, volume.shape))]


def blend(
    forward: Forward,
    volume: OnDevice,
    *,
    window: Sequence[int],
    overlap: float,
    batch_size: int,
    mirror_axes: Sequence[int] = (),
    within: np.ndarray | None = None,
) -> jax.Array:
    """Blends the outputs for overlapping windows as nnU-Net does (Isensee, 2021), on the device.

    Overlapping windows are averaged with Gaussian weights (sigma is an eighth of the window), so
    that windows with a voxel near their middle count most. An axis shorter than the window is
    padded by its last voxels, and the result is cropped.

    Windows without a voxel of `within` are skipped. The probabilities inside `within` are the same
    to the bit as without it: no window that covers them is skipped, and the order of sums stays.

    Args:
        forward: a jitted function, made once by the caller, from windows of the volume's arrays,
            each [N, *window], to [N, *window] float32 probabilities. N is always `batch_size`. If
            it runs on a mesh, it splits the windows by a sharding constraint.
        volume: the network's inputs, from `prepare`, for any number of calls.
        window: voxels of a window along D, H and W.
        overlap: least share of a window that the next one covers again, in [0, 1).
        batch_size: number of windows in a batch.
        mirror_axes: a subset of 0, 1, 2. Every window is also predicted mirrored along each
            combination of these axes and the outputs are averaged, at 2 ** len(mirror_axes) times
            the cost.
        within: [D, H, W] bool, voxels whose probabilities are wanted; others get 0. None for all.

    Returns:
        Probabilities of the padded volume, [R, C] float32 in [0, 1], see `rows`; 0 past it.

    Raises:
        ValueError: the volume was prepared for a smaller window; a setting is out of range;
            `forward` returns another shape.
    """
    _check_settings(overlap, batch_size, mirror_axes)
    window = _check_window(window, volume.padded)
    _check_within(within, volume.shape)
    starts = window_grid.starts(volume.shape, window, overlap)
    corners = window_grid.corners(starts, window, within)
    total = _sum_windows(forward, volume, corners, window, batch_size, mirror_axes)
    weights = _lay_out(window_grid.sums(volume.padded, starts, window), volume.padded)
    inside = None if within is None else rows.send(_pad(within, volume.padded), volume.sharding)
    return _divide(total, jax.device_put(weights, volume.sharding), inside)


def _pad(array: np.ndarray, padded: tuple[int, ...]) -> np.ndarray:
    """Pads [D, H, W] by its last voxels."""
    if array.shape == padded:
        return array
    widths = [(0, after - before) for before, after in zip(array.shape, padded, strict=True)]
    return np.pad(array, widths, mode="edge")


def _sum_windows(
    forward: Forward,
    volume: OnDevice,
    corners: np.ndarray,
    window: tuple[int, ...],
    batch_size: int,
    mirror_axes: Sequence[int],
) -> jax.Array:
    """Returns the weighted sum [R, C] float32 of the outputs for windows at corners [K, 3].

    Doesn't wait for the device, so that the next batch is queued before one is finished.
    """
    put = functools.partial(jax.device_put, device=volume.sharding)
    height = volume.padded[1]
    weights = put([window_grid.gaussian(length) for length in window])
    per_slice = put(np.int32(height))
    mirrors = window_grid.combinations(mirror_axes)
    total = rows.zeros(volume.padded, np.float32, volume.sharding)
    for firsts, share in _batches(corners @ np.array([[height, 0], [1, 0], [0, 1]]), batch_size):
        firsts, share = put((firsts, share / len(mirrors)))
        batch = _cut(volume.arrays, firsts, per_slice, window=window)
        probs = forward(batch)
        if probs.shape != (batch_size, *window):
            raise ValueError(
                f"sliding window: forward: got {probs.shape}, want {(batch_size, *window)}."
            )
        for axes in mirrors[1:]:
            probs = _plus_flipped(probs, forward(_flip(batch, axes=axes)), axes=axes)
        total = _add(total, probs, firsts, per_slice, share, weights)
    return total


def _batches(firsts: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of windows: their first row and column [N, 2], and weights 0 or 1, float32.

    The last batch is filled up with windows at the origin of weight 0.
    """
    for start in range(0, len(firsts), batch_size):
        part = firsts[start : start + batch_size].astype(np.int32)
        missing = batch_size - len(part)
        share = np.pad(np.ones(len(part), np.float32), (0, missing))
        yield np.pad(part, ((0, missing), (0, 0))), share


def _lay_out(sums: Sequence[np.ndarray], padded: tuple[int, ...]) -> list[np.ndarray]:
    """Returns the windows' weights along D and H for each row, [R, 1], and along W, [1, C]."""
    num_rows, num_columns = rows.size(padded)
    along_d, along_h, along_w = sums
    per_row = [np.repeat(along_d, padded[1]), np.tile(along_h, padded[0])]
    weights = [np.ones((num_rows, 1), np.float32) for _ in per_row]
    for column, values in zip(weights, per_row, strict=True):
        column[: len(values), 0] = values
    return [*weights, np.pad(along_w, (0, num_columns - padded[2]), constant_values=1)[None]]


@functools.partial(jax.jit, donate_argnames="total")
def _divide(total: jax.Array, weights: Sequence[jax.Array], inside: jax.Array | None) -> jax.Array:
    """Divides sums [R, C] by the windows' weights, in place; 0 where not `inside`."""
    along_d, along_h, along_w = weights
    probs = total / (along_d * (along_h * along_w))
    return probs if inside is None else jnp.where(inside, probs, 0)


def _places(firsts: jax.Array, per_slice: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Returns where all rows of windows begin: row and column, [..., 2] to [..., D * H, 2]."""
    slices, height, _ = window
    away = per_slice * jnp.arange(slices)[:, None] + jnp.arange(height)[None, :]
    away = away.reshape((1,) * (firsts.ndim - 1) + (slices * height,))
    row = firsts[..., :1] + away
    return jnp.stack([row, jnp.broadcast_to(firsts[..., 1:], row.shape)], axis=-1)


@functools.partial(jax.jit, static_argnames="window")
def _cut(
    volumes: dict[str, jax.Array],
    firsts: jax.Array,
    per_slice: jax.Array,
    *,
    window: tuple[int, ...],
) -> dict[str, jax.Array]:
    """Cuts windows [N, *window] that begin at `firsts` [N, 2] out of volumes [R, C].

    `per_slice` [] is the number of rows of a slice.
    """
    places = _places(firsts, per_slice, window)
    one_row = jax.lax.GatherDimensionNumbers(
        offset_dims=(2,), collapsed_slice_dims=(0,), start_index_map=(0, 1)
    )

    def cut(volume: jax.Array) -> jax.Array:
        sizes = (1, window[2])
        windows = jax.lax.gather(volume, places, one_row, sizes, mode="promise_in_bounds")
        return windows.reshape(-1, *window)

    return jax.tree.map(cut, volumes)


@functools.partial(jax.jit, static_argnames="axes")
def _flip(batch: Any, *, axes: tuple[int, ...]) -> Any:
    """Mirrors windows [N, *window], an array or a dict of arrays, along axes of the window."""
    return jax.tree.map(lambda x: jnp.flip(x, [axis + 1 for axis in axes]), batch)


@functools.partial(jax.jit, static_argnames="axes")
def _plus_flipped(probs: jax.Array, mirrored: jax.Array, *, axes: tuple[int, ...]) -> jax.Array:
    """Adds the outputs for mirrored windows, mirrored back."""
    return probs + _flip(mirrored, axes=axes)


@functools.partial(jax.jit, donate_argnames="total")
def _add(
    total: jax.Array,
    probs: jax.Array,
    firsts: jax.Array,
    per_slice: jax.Array,
    share: jax.Array,
    weights: Sequence[jax.Array],
) -> jax.Array:
    """Adds windows [N, *window], each times its share, to the volume [R, C], in place.

    Windows are added one after the other: those of a batch overlap, and a fixed order makes the
    sums reproducible.
    """
    along_d, along_h, along_w = weights
    weight = along_d[:, None, None] * along_h[None, :, None] * along_w[None, None, :]
    probs = probs * weight[None] * share[:, None, None, None]
    one_row = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0, 1)
    )

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return jax.lax.scatter_add(
            total,
            _places(firsts[i], per_slice, weight.shape),
            probs[i].reshape(-1, len(along_w)),
            one_row,
            indices_are_sorted=True,
            unique_indices=True,
            mode="promise_in_bounds",
        )

    return jax.lax.fori_loop(0, len(probs), add, total)


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
            f"sliding window: window: got {window}, want at most {most}, the prepared volume's."
        )
    return tuple(window)


def _check_within(within: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if within is not None and (within.shape != shape or within.dtype != bool):
        raise ValueError(
            f"sliding window: within: got {within.shape} {within.dtype}, want {shape} bool."
        )


def _check_settings(overlap: float, batch_size: int, mirror_axes: Sequence[int]) -> None:
    if not 0 <= overlap < 1:
        raise ValueError(f"sliding window: overlap: got {overlap}, want 0 or more and below 1.")
    if batch_size < 1:
        raise ValueError(f"sliding window: batch_size: got {batch_size}, want 1 or more.")
    if len(set(mirror_axes)) < len(mirror_axes) or not set(mirror_axes) <= {0, 1, 2}:
        raise ValueError(
            f"sliding window: mirror_axes: got {mirror_axes}, want some of 0, 1, 2, each once."
        )
