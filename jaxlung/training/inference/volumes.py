"""The network over whole volumes: probabilities, and the mask that is given."""

import functools

import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.volume import components, sliding_window

IN_PLANE = (1, 2)  # Axes of mirror images: slices have an order, rows and columns mirror well.


def put(system: system_lib.System, volume: volumes.Volume) -> sliding_window.OnDevice:
    """Sends a volume that was made ready to the device, where windows are cut from it."""
    return sliding_window.prepare(
        {"images": volume.image, "masks": volume.mask},
        system.settings.patch_size,
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
) -> np.ndarray:
    """Probabilities of a volume that was made ready.

    Where only lungs may hold foreground, windows without a voxel of lung are not judged.

    Args:
        system: the run.
        state: the network.
        volume: from `volumes.load`.
        overlap: see `settings.InferenceSettings`.
        mirror: likewise.
        on_device: the volume from `put`, if it is there already.

    Returns:
        [D, H, W] float32, on `volume.image`'s voxels; 0 where none may be found.
    """
    return sliding_window.predict(
        functools.partial(system.window_step, state),
        on_device or put(system, volume),
        window=system.settings.patch_size,
        overlap=overlap,
        batch_size=system.settings.eval_batch_size,
        mirror_axes=IN_PLANE if mirror else (),
        within=volume.mask & record.LUNG != 0 if system.inference.inside_lungs else None,
    )


def predict_record(
    system: system_lib.System, state: train_step.TrainState, item: record.VolumeRecord
) -> np.ndarray:
    """Probabilities on a record's own voxels, [D, H, W] float32; 0 where none may be found."""
    volume = volumes.load(item, system.settings)
    probs = predict(
        system, state, volume, overlap=system.inference.overlap, mirror=system.inference.mirror
    )
    restored = volumes.restore(probs, volume, item.image.shape)
    if system.inference.inside_lungs and volume.resampled_shape != item.image.shape:
        # Between a voxel of lung and one outside lie some of either kind.
        np.copyto(restored, 0, where=item.mask & record.LUNG == 0)
    return restored


def find_foreground(system: system_lib.System, probs: np.ndarray) -> np.ndarray:
    """[D, H, W] bool of probabilities [D, H, W]: what is above the threshold, its largest parts."""
    found = system.task.postprocess(probs[..., None]) > 0
    keep_largest = system.inference.keep_largest
    return components.largest(found, keep_largest) if keep_largest else found
