"""Runs a network over whole volumes: probabilities, and the mask made from them."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.transforms import volumes
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.volume import components, sliding_window

Forward = Callable[[train_step.TrainState, feed_lib.Batch], jax.Array]
IN_PLANE = (1, 2)  # Axes of mirror images: slices have an order, rows and columns mirror well.


def put(system: system_lib.System, volume: volumes.Volume) -> sliding_window.OnDevice:
    """Sends a prepared volume to the device, where windows are cut from it."""
    return sliding_window.prepare(
        {"images": volume.image, "masks": volume.mask},
        system.patch_settings.patch_size,
        system.shardings.replicated,
    )


def predict(
    system: system_lib.System,
    state: train_step.TrainState,
    volume: volumes.Volume,
    *,
    overlap: float,
    mirror: bool,
    on_device: sliding_window.OnDevice | None = None,
    step: Forward | None = None,
) -> np.ndarray:
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
        [D, H, W] float32 on the voxels of `volume.image`; 0 outside the lungs, if only they can
        hold foreground.
    """
    return sliding_window.predict(
        functools.partial(step or system.window_step, state),
        on_device or put(system, volume),
        window=system.patch_settings.patch_size,
        overlap=overlap,
        batch_size=system.settings.eval_batch_size,
        mirror_axes=IN_PLANE if mirror else (),
        within=volume.mask & record.LUNG != 0 if system.volume_inference.inside_lungs else None,
    )


def predict_record(
    system: system_lib.System,
    state: train_step.TrainState,
    item: record.VolumeRecord,
    step: Forward | None = None,
) -> np.ndarray:
    """Predicts probabilities on a record's own voxels, [D, H, W] float32.

    With `step`, a jitted step of the system, they are what it returns. They are 0 outside the
    lungs, if only lungs can hold foreground.
    """
    volume, how = volumes.load(item, system.patch_settings), system.volume_inference
    probs = predict(
        system,
        state,
        volume,
        overlap=system.volume_inference.overlap,
        mirror=system.volume_inference.mirror,
        step=step,
    )
    restored = volumes.restore(probs, volume, item.image.shape)
    if how.inside_lungs and volume.resampled_shape != item.image.shape:
        # Resampling gave probabilities to voxels just outside the lungs.
        np.copyto(restored, 0, where=item.mask & record.LUNG == 0)
    return restored


def find_foreground(system: system_lib.System, probs: np.ndarray) -> np.ndarray:
    """Returns the largest parts that are above the threshold, [D, H, W] bool."""
    found = system.task.postprocess(probs[..., None]) > 0
    keep_largest = system.volume_inference.keep_largest
    return components.largest(found, keep_largest) if keep_largest else found
