"""Runs a network over a whole volume by overlapping windows, blended, all on the device.

The volume goes to the device once. Windows are cut there in batches of one size, and the network's
outputs are added there, so that a single array returns.

No program is compiled for one volume's shape. Voxels lie in one row [V], the strides of slices and
rows are arguments, and V is rounded up to a power of two (`_capacity`). The network is compiled
once, the programs that cut and add once for each V.

Memory for 630 x 630 x 300 voxels, rounded up to 2**27: 268 MB of int16, 134 MB of uint8 and 537 MB
of float32 probabilities, 940 MB in all, besides the windows of a batch and the network's own needs.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.volume import window_grid

MOST_VOXELS = 2**31  # Positions are int32.

Forward = Callable[[dict[str, jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class OnDevice:
    """A volume on the device, made by `prepare` for any number of calls of `predict`.

    Attributes:
        arrays: the network's inputs by name, [V] each with V a power of two: the voxels of the
            padded volume row by row, then zeros.
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
    on_host = {name: _in_a_row(array, padded) for name, array in arrays.items()}
    return OnDevice(jax.device_put(on_host, sharding), shape, padded, sharding)


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
    """Returns probabilities of a whole volume, blended from windows as in nnU-Net (Isensee, 2021).

    Overlapping windows are averaged with Gaussian weights (sigma is an eighth of the window), so
    that windows with a voxel near their middle count most. An axis shorter than the window is
    padded by its last voxels, and the result is cropped.

    Windows without a voxel of `within` are skipped. The probabilities inside `within` are the same
    to the bit as without it: no window that covers them is skipped, and the order of sums stays.

    Args:
        forward: a jitted function, made once by the caller, from windows of `arrays`, each
            [N, *window], to [N, *window] float32 probabilities. N is always `batch_size`.
        arrays: the network's inputs by name, each [D, H, W] of any type; or the result of
            `prepare`, to keep them on the device between calls.
        window: voxels of a window along D, H and W.
        overlap: least share of a window that the next one covers again, in [0, 1).
        batch_size: number of windows in a batch.
        mirror_axes: a subset of 0, 1, 2. Every window is also predicted mirrored along each
            combination of these axes and the outputs are averaged, at 2 ** len(mirror_axes) times
            the cost.
        within: [D, H, W] bool, voxels whose probabilities are wanted; others get 0. None for all.
        sharding: placement of the volume; None for the default device. For a `forward` over a mesh
            pass `Shardings.replicated`: `forward` splits the windows by a sharding constraint.
            Ignored for a prepared volume.

    Returns:
        [D, H, W] float32 in [0, 1].

    Raises:
        ValueError: the arrays are not 3D, differ in shape or were prepared for a smaller window; a
            setting is out of range; `forward` returns another shape.
    """
    _check_settings(overlap, batch_size, mirror_axes)
    volume = arrays if isinstance(arrays, OnDevice) else prepare(arrays, window, sharding)
    window = _check_window(window, volume.padded)
    _check_within(within, volume.shape)
    starts = window_grid.starts(volume.shape, window, overlap)
    corners = window_grid.corners(starts, window, within)
    total = _sum_windows(forward, volume, corners, window, batch_size, mirror_axes)
    on_host = jax.device_get(total)[: math.prod(volume.padded)].reshape(volume.padded)
    return _divide(on_host, window_grid.sums(volume.padded, starts, window), volume.shape, within)


def _in_a_row(array: np.ndarray, padded: tuple[int, ...]) -> np.ndarray:
    """Returns [D, H, W] as a row [V]: padded by its last voxels, then by zeros."""
    row = np.zeros(_capacity(padded), array.dtype)
    if array.shape != padded:
        widths = [(0, after - before) for before, after in zip(array.shape, padded, strict=True)]
        array = np.pad(array, widths, mode="edge")
    row[: array.size] = array.ravel()
    return row


def _capacity(padded: Sequence[int]) -> int:
    """Returns the length of a row on the device: the next power of two, for few programs."""
    return 1 << (math.prod(padded) - 1).bit_length()


def _sum_windows(
    forward: Forward,
    volume: OnDevice,
    corners: np.ndarray,
    window: tuple[int, ...],
    batch_size: int,
    mirror_axes: Sequence[int],
) -> jax.Array:
    """Returns the weighted sum [V] float32 of the outputs for windows at corners [K, 3].

    Doesn't wait for the device, so that the next batch is queued before one is finished.
    """
    put = functools.partial(jax.device_put, device=volume.sharding)
    _, height, width = volume.padded
    weights = put([window_grid.gaussian(length) for length in window])
    steps = put(np.array([height * width, width], np.int32))
    mirrors = window_grid.combinations(mirror_axes)
    total = put(_zeros(_capacity(volume.padded)))
    for firsts, share in _batches(corners @ np.array([height * width, width, 1]), batch_size):
        firsts, share = put((firsts, share / len(mirrors)))
        batch = _cut(volume.arrays, firsts, steps, window=window)
        probs = forward(batch)
        if probs.shape != (batch_size, *window):
            raise ValueError(
                f"sliding window: forward: got {probs.shape}, want {(batch_size, *window)}."
            )
        for axes in mirrors[1:]:
            probs = _plus_flipped(probs, forward(_flip(batch, axes=axes)), axes=axes)
        total = _add(total, probs, firsts, steps, share, weights)
    return total


def _batches(firsts: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of windows: their first voxels, int32, and weights 0 or 1, float32.

    The last batch is filled up with windows at the origin of weight 0.
    """
    for start in range(0, len(firsts), batch_size):
        part = firsts[start : start + batch_size].astype(np.int32)
        missing = batch_size - len(part)
        yield np.pad(part, (0, missing)), np.pad(np.ones(len(part), np.float32), (0, missing))


def _divide(
    total: np.ndarray,
    sums: Sequence[np.ndarray],
    shape: tuple[int, ...],
    within: np.ndarray | None,
) -> np.ndarray:
    """Divides sums [*padded] by the windows' weights and crops; 0 where not `within`."""
    along_d, along_h, along_w = sums
    in_plane = (along_h[:, None] * along_w)[: shape[1], : shape[2]]
    probs = np.zeros(shape, np.float32)
    for index, plane in enumerate(probs):  # Plane by plane, to stay in the CPU's cache.
        here = total[index, : shape[1], : shape[2]]
        where = True if within is None else within[index]
        np.divide(here, along_d[index] * in_plane, out=plane, where=where)
    return probs


@functools.partial(jax.jit, static_argnames="size")
def _zeros(size: int) -> jax.Array:
    return jnp.zeros(size, jnp.float32)


def _rows(firsts: jax.Array, steps: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Returns the first voxels of all rows of windows at `firsts`, [...] to [..., D * H, 1]."""
    slices, rows, _ = window
    away = steps[0] * jnp.arange(slices)[:, None] + steps[1] * jnp.arange(rows)[None, :]
    away = away.reshape((1,) * firsts.ndim + (slices * rows,))
    return (firsts[..., None] + away)[..., None]


@functools.partial(jax.jit, static_argnames="window")
def _cut(
    volumes: dict[str, jax.Array], firsts: jax.Array, steps: jax.Array, *, window: tuple[int, ...]
) -> dict[str, jax.Array]:
    """Cuts windows [N, *window] that begin at `firsts` [N] out of volumes [V].

    `steps` [2] are the distances in [V] from a slice to the next and from a row to the next.
    """
    places = _rows(firsts, steps, window)
    rows = jax.lax.GatherDimensionNumbers(
        offset_dims=(2,), collapsed_slice_dims=(), start_index_map=(0,)
    )

    def cut(volume: jax.Array) -> jax.Array:
        windows = jax.lax.gather(volume, places, rows, window[2:], mode="promise_in_bounds")
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
    steps: jax.Array,
    share: jax.Array,
    weights: Sequence[jax.Array],
) -> jax.Array:
    """Adds windows [N, *window], each times its share, to the volume [V], in place.

    Windows are added one after the other: those of a batch overlap, and a fixed order makes the
    sums reproducible.
    """
    along_d, along_h, along_w = weights
    weight = along_d[:, None, None] * along_h[None, :, None] * along_w[None, None, :]
    probs = probs * weight[None] * share[:, None, None, None]
    rows = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1,), inserted_window_dims=(), scatter_dims_to_operand_dims=(0,)
    )

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return jax.lax.scatter_add(
            total,
            _rows(firsts[i], steps, weight.shape),
            probs[i].reshape(-1, len(along_w)),
            rows,
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
