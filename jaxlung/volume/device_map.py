"""A map of probabilities on the device: resampled, thresholded and measured there.

Only what is asked for comes to the host: a mask as bits, a few sums, or the probabilities.
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.volume import resample, rows

Box = tuple[slice, ...]  # along D, H, W, with start and stop


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """Probabilities of a volume, which are 0 outside a box; made by `make`.

    Attributes:
        rows: [R, C] float32 on the device, a volume of shape `laid_out` as in `rows`.
        laid_out: shape of that volume; it may be larger than the box, and is 0 there.
        box: its place in the whole volume.
        shape: shape of the whole volume.
    """

    rows: jax.Array
    laid_out: tuple[int, ...]
    box: Box
    shape: tuple[int, ...]

    def fetch(self) -> np.ndarray:
        """Returns the probabilities on the host, [*shape] float32."""
        return self._whole(rows.fetch(self.rows, self.laid_out))

    def above(self, threshold: float) -> np.ndarray:
        """Returns where the probability is above a threshold, [*shape] bool on the host."""
        return self._whole(rows.fetch(_above(self.rows, self._put(threshold)), self.laid_out))

    def inside(self, mask: np.ndarray) -> "Map":
        """Returns the map with 0 outside a mask, [*shape] bool."""
        return dataclasses.replace(self, rows=_inside(self.rows, self._send(mask)))

    def clipped(self) -> "Map":
        """Returns the map in [0, 1]; rounding may lead a weighted mean slightly outside."""
        return dataclasses.replace(self, rows=_clipped(self.rows))

    def moved(self, to: "Map") -> "Map":
        """Returns the map on the devices of another one."""
        return dataclasses.replace(self, rows=jax.device_put(self.rows, to.rows.sharding))

    def mean(self, mask: np.ndarray) -> float:
        """Returns the mean inside a mask, [*shape] bool; NaN if that is empty."""
        return self._mean(self.rows, mask)

    def mean_entropy_bits(self, mask: np.ndarray | None = None) -> float:
        """Returns the mean of -p log2 p - (1-p) log2 (1-p) inside a mask, or of the whole volume.

        Args:
            mask: [*shape] bool; None for the whole volume.
        """
        return self._mean(_entropy_bits(self.rows), mask)

    def resampled(self, shape: tuple[int, ...], *, whole: bool = False) -> "Map":
        """Samples the map as `resample.to_shape` does, to the same bits.

        Args:
            shape: shape of the new whole volume.
            whole: True to lay out the whole volume, which maps that are computed with each other
                need; False for only the voxels that can be above 0.
        """
        if shape == self.shape and (not whole or self.laid_out == shape):
            return self
        sizes = zip(self.box, self.shape, shape, strict=True)
        axes = [_Axis.make(*each, whole=whole) for each in sizes]
        laid_out = tuple(len(axis.share) for axis in axes)
        result = rows.zeros(laid_out, np.float32, self.rows.sharding)
        put = functools.partial(jax.device_put, device=self.rows.sharding)
        columns = put(_columns(axes[2], rows.size(laid_out)[1]))
        zero = put(np.int32(0))
        for start, length, held in rows.parts(laid_out):
            sources = put(_rows(axes[0], axes[1], self.laid_out[1], start, length, held))
            part = _interpolate(self.rows, sources, columns, zero)
            result = rows.write(result, part, put(np.int32(start)))
        return Map(result, laid_out, tuple(axis.box for axis in axes), shape)

    def _mean(self, values: jax.Array, mask: np.ndarray | None) -> float:
        if mask is None:
            sums, num = _sums(values), math.prod(self.shape)
        else:
            sums, num = _sums(_inside(values, self._send(mask))), int(np.count_nonzero(mask))
        # Each row's sum is float32.
        total = jax.device_get(sums).sum(dtype=np.float64)
        return float(total / num) if num else math.nan

    def _whole(self, values: np.ndarray) -> np.ndarray:
        """Puts an array of shape `laid_out` into the whole volume."""
        values = values[_lengths(self.box)]
        if values.shape == self.shape:
            return np.ascontiguousarray(values)
        whole = np.zeros(self.shape, values.dtype)
        whole[self.box] = values
        return whole

    def _send(self, mask: np.ndarray) -> jax.Array:
        """Sends the box's part of a mask of the whole volume."""
        part = np.zeros(self.laid_out, bool)
        part[_lengths(self.box)] = mask[self.box]
        return rows.send(part, self.rows.sharding)

    def _put(self, value: float) -> jax.Array:
        return jax.device_put(np.float32(value), self.rows.sharding)


def make(values: jax.Array, laid_out: tuple[int, ...], box: Box, shape: tuple[int, ...]) -> Map:
    """Makes a map of values [R, C] float32, which become 0 past the size of the box."""
    lengths = np.array([part.stop - part.start for part in box], np.int32)
    if lengths.tolist() != list(laid_out):
        per_slice = np.int32(laid_out[1])
        values = _crop(values, *jax.device_put((lengths, per_slice), values.sharding))
    return Map(values, laid_out, box, shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Running:
    """Mean and squared differences of maps that are added one by one (Welford, 1962).

    Attributes:
        count: number of maps.
        mean: their mean.
        squares: sum of squared differences from the mean.
    """

    count: int
    mean: Map
    squares: Map

    @classmethod
    def of(cls, first: Map) -> "Running":
        """Returns the state after one map."""
        zeros = rows.zeros(first.laid_out, np.float32, first.rows.sharding)
        return cls(1, first, dataclasses.replace(first, rows=zeros))

    def add(self, found: Map) -> "Running":
        """Returns the state after another map, laid out as the first."""
        count = jax.device_put(np.float32(self.count + 1), found.rows.sharding)
        mean, squares = _add_to_mean(self.mean.rows, self.squares.rows, found.rows, count)
        return Running(
            self.count + 1,
            dataclasses.replace(self.mean, rows=mean),
            dataclasses.replace(self.squares, rows=squares),
        )

    def deviation(self) -> Map:
        """Returns the standard deviation of all maps."""
        count = jax.device_put(np.float32(self.count), self.squares.rows.sharding)
        return dataclasses.replace(self.squares, rows=_root_of_mean(self.squares.rows, count))


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The voxels of one axis that are sampled.

    Attributes:
        box: their place on the new axis.
        before: the old voxels before their centres, as positions in the old box; -1 outside it.
        after: the old voxels after their centres, likewise.
        share: weight of the latter, float32.
    """

    box: slice
    before: np.ndarray
    after: np.ndarray
    share: np.ndarray

    @classmethod
    def make(cls, box: slice, old: int, new: int, *, whole: bool) -> "_Axis":
        *both, share = resample.neighbours(old, new)
        held = [(x >= box.start) & (x < box.stop) for x in both]
        before, after = np.where(held, np.subtract(both, box.start), -1)
        (reached,) = np.nonzero((before >= 0) | (after >= 0) | whole)
        # Voxels that shrinking skips reach none.
        place = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 1)
        return cls(place, before[place], after[place], share[place].astype(np.float32))


def _lengths(box: Box) -> Box:
    return tuple(slice(part.stop - part.start) for part in box)


def _columns(axis: _Axis, num_columns: int) -> tuple[np.ndarray, ...]:
    """Returns the old columns before and after each new one, [C], and their weights, [1, C]."""
    past = num_columns - len(axis.share)
    before, after = (
        np.pad(x, (0, past), constant_values=-1).astype(np.int32) for x in (axis.before, axis.after)
    )
    return before, after, np.pad(axis.share, (0, past))[None]


def _rows(
    along_d: _Axis, along_h: _Axis, per_slice: int, start: int, length: int, held: int
) -> tuple[np.ndarray, ...]:
    """Returns the old rows around each of some new ones, [4, length], and weights, [length, 1].

    The old rows are those before and after along D, each before and after along H.
    """
    d, h = np.divmod(np.arange(start, start + held), len(along_h.share))
    sides = itertools.product((along_h.before, along_h.after), (along_d.before, along_d.after))
    pairs = [(x[d], y[h]) for y, x in sides]
    old = np.stack([np.where((x >= 0) & (y >= 0), x * per_slice + y, -1) for x, y in pairs])
    past = length - held
    shares = (np.pad(axis.share[i], (0, past))[:, None] for axis, i in ((along_d, d), (along_h, h)))
    return np.pad(old, ((0, 0), (0, past)), constant_values=-1).astype(np.int32), *shares


@jax.jit
def _interpolate(
    old: jax.Array,
    sources: tuple[jax.Array, jax.Array, jax.Array],
    columns: tuple[jax.Array, jax.Array, jax.Array],
    zero: jax.Array,
) -> jax.Array:
    """Interpolates rows [K, C] linearly along D, H and W in turn; a voxel at -1 is 0."""

    def take(values: jax.Array, places: jax.Array, axis: int) -> jax.Array:
        places = jnp.where(places < 0, values.shape[axis], places)  # Out of bounds.
        return jnp.take(values, places, axis=axis, mode="fill", fill_value=0)

    def between(before: jax.Array, after: jax.Array, share: jax.Array) -> jax.Array:
        product = share * (after - before)
        # Keeps the compiler from fusing product and sum, which would round once where NumPy rounds
        # twice: it doesn't know that no bit is changed.
        bits = jax.lax.bitcast_convert_type(product, jnp.int32) ^ zero
        return before + jax.lax.bitcast_convert_type(bits, jnp.float32)

    places, share_d, share_h = sources
    corners = [take(old, places[i], 0) for i in range(4)]
    lines = between(
        between(corners[0], corners[1], share_d), between(corners[2], corners[3], share_d), share_h
    )
    before, after, share_w = columns
    return between(take(lines, before, 1), take(lines, after, 1), share_w)


@jax.jit
def _crop(values: jax.Array, lengths: jax.Array, per_slice: jax.Array) -> jax.Array:
    """Sets to 0 what is past `lengths` [3] along D, H or W, in rows with `per_slice` to a slice."""
    row, column = jnp.arange(values.shape[0])[:, None], jnp.arange(values.shape[1])[None, :]
    held = (row // per_slice < lengths[0]) & (row % per_slice < lengths[1])
    return jnp.where(held & (column < lengths[2]), values, 0)


@jax.jit
def _above(values: jax.Array, threshold: jax.Array) -> jax.Array:
    return values > threshold


@jax.jit
def _inside(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, values, 0)


@jax.jit
def _clipped(values: jax.Array) -> jax.Array:
    return jnp.clip(values, 0, 1)


@jax.jit
def _entropy_bits(values: jax.Array) -> jax.Array:
    entr = jax.scipy.special.entr
    return (entr(values) + entr(1 - values)) / math.log(2)


@jax.jit
def _add_to_mean(
    mean: jax.Array, squares: jax.Array, values: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array]:
    away = values - mean
    mean = mean + away / count
    return mean, squares + away * (values - mean)


@jax.jit
def _root_of_mean(squares: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.sqrt(squares / count)


@jax.jit
def _sums(values: jax.Array) -> jax.Array:
    return jnp.sum(values, axis=1)
