"""Volumes on the device: rows of one length, so that few programs serve all shapes.

A volume [D, H, W] lies on the device as [R, C]: row d * H + h holds the W voxels of that row, then
padding. R is D * H rounded up to a power of two, and C is W rounded up to a multiple of 128, so
that volumes of many shapes share their compiled programs.

Volumes cross the border to the device in parts of `PART` rows, without the padding at their end,
and masks as single bits.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

COLUMNS = 128  # C is a multiple of it, the width of a TPU's registers.
PART = 2**13  # rows: 8 MB of int16 for 512 columns


def size(shape: Sequence[int]) -> tuple[int, int]:
    """Returns (R, C), the size on the device of a volume of shape [D, H, W]."""
    depth, height, width = shape
    return 1 << (depth * height - 1).bit_length(), -(-width // COLUMNS) * COLUMNS


def parts(shape: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yields the first row, the number of rows and the number of the volume's rows of each part.

    All parts of a volume have the same number of rows; the last one may go past the volume.
    """
    num_rows, length = math.prod(shape[:2]), min(PART, size(shape)[0])
    for start in range(0, num_rows, length):
        yield start, length, min(length, num_rows - start)


def send(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """Copies a volume to the device.

    Args:
        array: [D, H, W] of any type; booleans cross the border as bits.
        sharding: placement of the rows; None for the default device.

    Returns:
        [R, C] of the same type, 0 past the volume.
    """
    put = functools.partial(jax.device_put, device=sharding)
    num_columns, width = size(array.shape)[1], array.shape[-1]
    source, is_mask = array.reshape(-1, width), array.dtype == bool
    rows = zeros(array.shape, array.dtype, sharding)
    for start, length, held in parts(array.shape):
        part = np.zeros((length, num_columns), array.dtype)
        part[:held, :width] = source[start : start + held]
        sent = put((np.packbits(part, axis=-1) if is_mask else part, np.int32(start)))
        rows = (_write_bits if is_mask else write)(rows, *sent)
    return rows


def fetch(rows: jax.Array, shape: Sequence[int]) -> np.ndarray:
    """Copies a volume of shape [D, H, W] from the device: inverts `send`."""
    is_mask = rows.dtype == bool
    read = _read_bits if is_mask else _read
    starts = [(jax.device_put(np.int32(i), rows.sharding), n, held) for i, n, held in parts(shape)]
    # All parts are queued on the device before the first one is waited for.
    queued = [(read(rows, start, length=length), held) for start, length, held in starts]
    array = np.empty((math.prod(shape[:2]), shape[2]), rows.dtype)
    begin = 0
    for part, held in queued:
        part = jax.device_get(part)[:held]
        part = np.unpackbits(part, axis=-1).view(bool) if is_mask else part
        array[begin : begin + held] = part[:, : shape[2]]
        begin += held
    return array.reshape(shape)


def zeros(
    shape: Sequence[int], dtype: np.typing.DTypeLike, sharding: jax.sharding.Sharding | None
) -> jax.Array:
    """Makes the rows [R, C] of a volume of zeros on the device."""
    return jax.device_put(_zeros(shape=size(shape), dtype=np.dtype(dtype)), sharding)


@functools.partial(jax.jit, donate_argnames="rows")
def write(rows: jax.Array, part: jax.Array, start: jax.Array) -> jax.Array:
    """Replaces rows from `start` on, in place."""
    return jax.lax.dynamic_update_slice(rows, part, (start, jnp.zeros_like(start)))


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def _zeros(*, shape: tuple[int, int], dtype: np.dtype) -> jax.Array:
    return jnp.zeros(shape, dtype)


@functools.partial(jax.jit, donate_argnames="rows")
def _write_bits(rows: jax.Array, bits: jax.Array, start: jax.Array) -> jax.Array:
    return write(rows, jnp.unpackbits(bits, axis=-1).astype(bool), start)


@functools.partial(jax.jit, static_argnames="length")
def _read(rows: jax.Array, start: jax.Array, *, length: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(rows, start, length)


@functools.partial(jax.jit, static_argnames="length")
def _read_bits(rows: jax.Array, start: jax.Array, *, length: int) -> jax.Array:
    return jnp.packbits(_read(rows, start, length=length), axis=-1)
