"""A network over a whole volume: overlapping windows, blended, all on the device.

The volume goes to the device once. Windows are cut there in batches of one size, and the network's
answers are added there, so that one array returns. Nothing is compiled for a volume's shape: voxels
lie in one row, [V], whose rows and slices are numbers of the program's input, and V is rounded up
to a power of two (`_capacity`). The network is compiled once, what cuts and adds once for each V.

Memory for 630 x 630 x 300 voxels, rounded up to 2**27: 268 MB of int16, 134 MB of uint8 and 537 MB
of float32 probabilities, 940 MB in all, besides the windows of a batch and what the network itself
needs.
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
    """A volume that `prepare` brought to the device, for any number of `predict`.

    Attributes:
        arrays: what the network looks at by name, [V] each, V a power of two: the voxels of
            `padded`, row by row, and zeros.
        shape: of the volume itself.
        padded: its shape on the device, where it goes on with its last voxels.
        sharding: where it lives; None for the default device.
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
    """Brings a volume to the device, padded as `predict` needs it.

    Args:
        arrays: see `predict`; they are copied.
        window: voxels along D, H and W, at least those of any window to come.
        sharding: see `predict`.

    Raises:
        ValueError: arrays that are not 3D, differ in shape or are too large; a bad window.
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
    """Probabilities of a whole volume, blended from windows as nnU-Net does (Isensee, 2021).

    Windows that overlap are averaged with Gaussian weights, sigma an eighth of the window, so that
    a voxel is mostly judged by windows that see what is around it. An axis thinner than the window
    is continued by its last voxels, and cropped back.

    Windows without a voxel of `within` are not judged. That changes no probability in it, not by
    a bit: every window that covers a voxel of it is judged, and the order of sums stays.

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
        within: [D, H, W] bool, where probabilities are wanted: elsewhere they are 0; None for all.
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
    window = _check_window(window, volume.padded)
    _check_within(within, volume.shape)
    starts = window_grid.starts(volume.shape, window, overlap)
    corners = window_grid.corners(starts, window, within)
    total = _sum_windows(forward, volume, corners, window, batch_size, mirror_axes)
    on_host = jax.device_get(total)[: math.prod(volume.padded)].reshape(volume.padded)
    return _divide(on_host, window_grid.sums(volume.padded, starts, window), volume.shape, within)


def _in_a_row(array: np.ndarray, padded: tuple[int, ...]) -> np.ndarray:
    """[D, H, W] to [V]: continued to `padded` by the last voxels, then zeros."""
    row = np.zeros(_capacity(padded), array.dtype)
    if array.shape != padded:
        widths = [(0, after - before) for before, after in zip(array.shape, padded, strict=True)]
        array = np.pad(array, widths, mode="edge")
    row[: array.size] = array.ravel()
    return row


def _capacity(padded: Sequence[int]) -> int:
    """Voxels of a row on the device: the next power of two, so that few programs serve all."""
    return 1 << (math.prod(padded) - 1).bit_length()


def _sum_windows(
    forward: Forward,
    volume: OnDevice,
    corners: np.ndarray,
    window: tuple[int, ...],
    batch_size: int,
    mirror_axes: Sequence[int],
) -> jax.Array:
    """Weighted sum of what `forward` says of windows at corners [K, 3], [V] float32.

    Waits for nothing: the device has the next batch before it is through with one.
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
    """First voxels of windows, and what each counts, 0 or 1: [batch_size] int32 and float32.

    The last batch is filled up with windows at the origin that count 0.
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
    """Sums [*padded] by the weights of all windows, cropped to `shape`; 0 where not `within`."""
    along_d, along_h, along_w = sums
    in_plane = (along_h[:, None] * along_w)[: shape[1], : shape[2]]
    probs = np.zeros(shape, np.float32)
    for index, plane in enumerate(probs):  # A plane stays in the processor's cache.
        here = total[index, : shape[1], : shape[2]]
        where = True if within is None else within[index]
        np.divide(here, along_d[index] * in_plane, out=plane, where=where)
    return probs


@functools.partial(jax.jit, static_argnames="size")
def _zeros(size: int) -> jax.Array:
    return jnp.zeros(size, jnp.float32)


def _rows(firsts: jax.Array, steps: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Where the rows of windows begin that begin at `firsts`: [...] to [..., D * H, 1] int32."""
    slices, rows, _ = window
    away = steps[0] * jnp.arange(slices)[:, None] + steps[1] * jnp.arange(rows)[None, :]
    away = away.reshape((1,) * firsts.ndim + (slices * rows,))
    return (firsts[..., None] + away)[..., None]


@functools.partial(jax.jit, static_argnames="window")
def _cut(
    volumes: dict[str, jax.Array], firsts: jax.Array, steps: jax.Array, *, window: tuple[int, ...]
) -> dict[str, jax.Array]:
    """[V] each to [N, *window], which begin at `firsts` [N]; `steps` [2] to a slice, to a row."""
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
    firsts: jax.Array,
    steps: jax.Array,
    share: jax.Array,
    weights: Sequence[jax.Array],
) -> jax.Array:
    """Adds windows [N, *window], each times its share, to the volume [V], in place.

    One after the other: windows of a batch overlap, and sums in one order are the same every time.
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
            f"sliding window: window: got {window}, want at most {most}, as the volume is prepared."
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
