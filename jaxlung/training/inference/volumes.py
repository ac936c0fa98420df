"""Runs a network over whole volumes: probabilities, and the mask made from them.

Probabilities stay on the device until they are fetched.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data.feed import example
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.transforms import volumes
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.volume import components, device_map, sliding_window

Forward = Callable[[train_step.TrainState, feed_lib.Batch], jax.Array]
IN_PLANE = (1, 2)  # Axes of mirror images: slices have an order, rows and columns mirror well.


def put(system: system_lib.System, volume: volumes.Volume) -> sliding_window.OnDevice:
    """Sends a prepared volume to the device, where windows are cut from it."""
    return sliding_window.prepare(
        {"images": volume.image, "masks": volume.mask},
        system.patch_settings.patch_size,
        system.shardings.replicated,
    )


def abstract_windows(system: system_lib.System) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, types and shardings of a batch of windows, for `System.window_step`."""
    batch_size, specs = system.settings.eval_batch_size, example.specs(system.settings)
    return {
        name: jax.ShapeDtypeStruct(
            (batch_size, *specs[name].shape),
            specs[name].dtype,
            sharding=system.shardings.replicated,
        )
        for name in ("images", "masks")
    }


def predict(
    system: system_lib.System,
    state: train_step.TrainState,
    volume: volumes.Volume,
    *,
    overlap: float,
    mirror: bool,
    on_device: sliding_window.OnDevice | None = None,
    step: Forward | None = None,
) -> device_map.Map:
    """Predicts the probabilities of a prepared volume.

    If only lungs can hold foreground, windows without a voxel of lung are skipped.

    Args:
        system: what the run's config describes.
        state: the network.
        volume: volume from `volumes.load`.
        overlap: see `settings.InferenceSettings`.
        mirror: see `settings.InferenceSettings`.
        on_device: the volume from `put`, if it is on the device already.
        step: a jitted step of the system; None for its `window_step`.

    Returns:
        A map of the whole volume at the network's spacing; 0 outside the volume's box, and outside
        the lungs, if only they can hold foreground.
    """
    on_device = on_device or put(system, volume)
    probs = sliding_window.blend(
        functools.partial(step or system.window_step, state),
        on_device,
        window=system.patch_settings.patch_size,
        overlap=overlap,
        batch_size=system.settings.eval_batch_size,
        mirror_axes=IN_PLANE if mirror else (),
        within=volume.mask & record.LUNG != 0 if system.volume_inference.inside_lungs else None,
    )
    place = zip(volume.box, volume.resampled_shape, strict=True)
    box = tuple(slice(*part.indices(size)[:2]) for part, size in place)
    return device_map.make(probs, on_device.padded, box, volume.resampled_shape)


def find(
    system: system_lib.System,
    state: train_step.TrainState,
    item: record.VolumeRecord,
    *,
    whole: bool = False,
    step: Forward | None = None,
    volume: volumes.Volume | None = None,
) -> device_map.Map:
    """Predicts the probabilities of a record's own voxels, without waiting for the device.

    They are 0 outside the lungs, if only lungs can hold foreground.

    Args:
        system: what the run's config describes.
        state: the network.
        item: the record.
        whole: see `device_map.Map.resampled`.
        step: see `predict`.
        volume: the record from `volumes.load`, if it was prepared already.
    """
    volume, how = volume or volumes.load(item, system.patch_settings), system.volume_inference
    probs = predict(system, state, volume, overlap=how.overlap, mirror=how.mirror, step=step)
    found = probs.resampled(item.image.shape, whole=whole)
    if how.inside_lungs and volume.resampled_shape != item.image.shape:
        # Resampling gave probabilities to voxels just outside the lungs.
        found = found.inside(item.mask & record.LUNG != 0)
    return found


def predict_record(
    system: system_lib.System,
    state: train_step.TrainState,
    item: record.VolumeRecord,
    step: Forward | None = None,
) -> np.ndarray:
    """Returns the probabilities of `find` on the host, [D, H, W] float32."""
    return find(system, state, item, step=step).fetch()


def mask_of(system: system_lib.System, found: device_map.Map) -> np.ndarray:
    """Returns the largest parts of a map that are above the threshold, [D, H, W] bool."""
    threshold = system.task.threshold
    assert threshold is not None  # Tasks of volumes have one.
    return _keep_largest(system, found.above(threshold))


def find_foreground(system: system_lib.System, probs: np.ndarray) -> np.ndarray:
    """Returns the mask of `mask_of` for probabilities [D, H, W] that are on the host."""
    return _keep_largest(system, system.task.postprocess(probs[..., None]) > 0)


def _keep_largest(system: system_lib.System, found: np.ndarray) -> np.ndarray:
    count = system.volume_inference.keep_largest
    return components.largest(found, count) if count else found
