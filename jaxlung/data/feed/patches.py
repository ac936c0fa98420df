"""Random patches of volumes that stay on the device, or of volumes in the host's memory.

The host draws the place of each patch from (seed, position in the run), in the same way for both
feeds, so both give the same patches and a resumed run needs only its step.
"""

import concurrent.futures
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, resident, stream
from jaxlung.data.transforms import volumes
from jaxlung.host import progress
from jaxlung.parallel import sharding
from jaxlung.volume import hounsfield

Triple = tuple[int, int, int]


def open_feed(
    source: record.Source[record.VolumeRecord],
    settings: settings_lib.PatchSettings,
    shardings: sharding.Shardings,
    name: str,
) -> feed_lib.Feed:
    """Reads all volumes, and puts them on the device if `settings.placement` says so.

    Index i of an epoch is a patch of volume i // `settings.patches_per_volume`.

    Args:
        source: volumes of one split.
        settings: size and number of patches, and where they lie.
        shardings: places of arrays on the devices.
        name: name of the split, for the progress line.
    """
    ready = load_all(source, settings, name)
    draw = Draw(ready, settings)
    slab_shape = stacked_shape([volume.image.shape for volume in ready])
    on_device = settings.placement == "device" or (
        settings.placement == "auto" and resident.fits(3 * int(np.prod(slab_shape)))
    )
    if not on_device:
        return feed_lib.Feed(
            num_examples=settings.num_examples(len(source)),
            example=stream.item_specs(settings),
            is_resident=False,
            store={},
            take=stream.take,
            items=stream.make_batches(_cutter(ready, draw), settings.num_threads, shardings),
        )
    store = sharding.put(stack(ready, slab_shape), shardings.replicated)
    depths = [volume.image.shape[0] for volume in ready]
    return feed_lib.Feed(
        num_examples=settings.num_examples(len(source)),
        example=stream.item_specs(settings),
        is_resident=True,
        store={},
        take=stream.take,
        items=_make_items(store, draw, depths, shardings),
    )


def load_all(
    source: record.Source[record.VolumeRecord], settings: settings_lib.PatchSettings, name: str
) -> list[volumes.Volume]:
    """Reads every volume of a split and makes it ready for patches."""
    with concurrent.futures.ThreadPoolExecutor(settings.num_threads) as pool:
        loads = pool.map(lambda i: volumes.load(source[i], settings), range(len(source)))
        return list(progress.report(loads, f"reading {name}", "volumes", len(source)))


class Draw:
    """The places of patches: a pure function of the run's seed and the patch's position.

    Args:
        ready: the volumes.
        settings: size of patches, and share of them that are centred on foreground.
    """

    def __init__(
        self, ready: Sequence[volumes.Volume], settings: settings_lib.PatchSettings
    ) -> None:
        bit = record.BITS[settings.foreground]
        self._shapes = [volume.image.shape for volume in ready]
        # Flat indices in 32 bits: a volume of 630 x 630 x 300 has 2 ** 27 voxels.
        self._foreground = [np.flatnonzero(volume.mask & bit).astype(np.uint32) for volume in ready]
        self._settings = settings

    @property
    def patch_size(self) -> Triple:
        """Slices, rows and columns of a patch, voxels."""
        return self._settings.patch_size

    def __call__(self, position: int, index: int) -> tuple[int, Triple]:
        """Returns a patch's volume and the place of its first voxel.

        Args:
            position: position of the patch in the run.
            index: index of the patch in its epoch.

        Returns:
            Number of the volume, and slice, row and column in it.
        """
        number = index // self._settings.patches_per_volume
        np_rng = np.random.default_rng((self._settings.seed, position))
        return number, draw_corner(
            np_rng,
            self._shapes[number],
            self._settings.patch_size,
            self._foreground[number],
            self._settings.foreground_fraction,
        )


def draw_corner(
    np_rng: np.random.Generator,
    shape: Triple,
    patch_size: Triple,
    foreground: np.ndarray,
    foreground_fraction: float,
) -> Triple:
    """Draws the first voxel of a patch, uniformly or centred on a foreground voxel.

    A patch that would reach over the volume's edge is moved inside.

    Args:
        np_rng: generator of this patch alone.
        shape: slices, rows and columns of the volume, at least `patch_size`.
        patch_size: slices, rows and columns of the patch, voxels.
        foreground: [K] flat indices of foreground voxels; if there are none, the draw is uniform.
        foreground_fraction: probability of a centred patch, [0, 1].
    """
    room = np.subtract(shape, patch_size)
    if np_rng.random() < foreground_fraction and len(foreground):
        centre = np.unravel_index(foreground[np_rng.integers(len(foreground))], shape)
        corner = np.clip(np.subtract(centre, np.floor_divide(patch_size, 2)), 0, room)
    else:
        corner = np_rng.integers(0, room + 1)
    first_slice, first_row, first_column = corner.tolist()
    return first_slice, first_row, first_column


def stacked_shape(shapes: Sequence[Triple]) -> Triple:
    """Returns the shape of `stack`: all slices, and the largest numbers of rows and columns."""
    slices, rows, columns = zip(*shapes, strict=True)
    return sum(slices), max(rows), max(columns)


def stack(ready: Sequence[volumes.Volume], shape: Triple) -> dict[str, np.ndarray]:
    """Stacks volumes along their slices: "images" int16 HU and "masks" uint8, both of `shape`.

    In one array, a patch of any volume is one dynamic slice. No patch reaches the padding beside
    smaller volumes.
    """
    slab: dict[str, np.ndarray] = {
        "images": np.full(shape, hounsfield.LOWEST_HU, np.int16),
        "masks": np.zeros(shape, np.uint8),
    }
    first = 0
    for volume in ready:
        depth, rows, columns = volume.image.shape
        slab["images"][first : first + depth, :rows, :columns] = volume.image
        slab["masks"][first : first + depth, :rows, :columns] = volume.mask
        first += depth
    return slab


def cut_all(stacked: dict[str, jax.Array], corners: jax.Array, size: Triple) -> feed_lib.Batch:
    """Cuts patches out of the stack; runs inside jit.

    Args:
        stacked: arrays of `stack`.
        corners: [K, B, 3] int32, the first voxel of each patch.
        size: slices, rows and columns of a patch.

    Returns:
        "images" and "masks" [K, B, D, H, W], "labels" [K, B] 0.
    """

    def cut(array: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(array, tuple(corner), size)

    cut_batches = jax.vmap(jax.vmap(cut, in_axes=(None, 0)), in_axes=(None, 0))
    batches = {name: cut_batches(array, corners) for name, array in stacked.items()}
    return batches | {"labels": jnp.zeros(corners.shape[:2], jnp.uint8)}


def _make_items(
    stacked: dict[str, jax.Array],
    draw: Draw,
    depths: Sequence[int],
    shardings: sharding.Shardings,
) -> feed_lib.MakeItems:
    """Returns a maker of items, the patches of some steps, cut on the device.

    A program of its own cuts them: it depends on the sizes of the volumes, which are others in each
    fold, and is compiled at once. The step is then the same program for all folds.
    """
    first_slices = np.concatenate([[0], np.cumsum(depths)[:-1]])
    cut = jax.jit(cut_all, static_argnames="size", out_shardings=shardings.steps)

    def items(
        example_at: order.Order, batch_size: int, dispatches: Iterable[range]
    ) -> Iterator[feed_lib.Batch]:
        for steps in dispatches:
            positions = order.positions(steps, batch_size)
            corners = np.empty((*positions.shape, 3), np.int32)
            for place, position in np.ndenumerate(positions):
                number, corner = draw(position, example_at(position))
                corners[place] = corner
                corners[(*place, 0)] += first_slices[number]
            yield cut(stacked, sharding.put(corners, shardings.steps), size=draw.patch_size)

    return items


def _cutter(ready: Sequence[volumes.Volume], draw: Draw) -> stream.MakeExample:
    """Returns a function that cuts a patch on the host."""

    def cut(position: int, index: int) -> dict[str, np.ndarray]:
        number, corner = draw(position, index)
        volume, size = ready[number], draw.patch_size
        box = tuple(
            slice(start, start + length) for start, length in zip(corner, size, strict=True)
        )
        return {
            "images": volume.image[box],
            "masks": volume.mask[box],
            "labels": np.zeros((), np.uint8),
        }

    return cut
