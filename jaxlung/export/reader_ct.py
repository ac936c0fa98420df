"""Whole CTs with an exported network: overlapping windows, as the run it came from. Needs SciPy."""

import logging
import types

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.export import reader as exported
from jaxlung.volume import components, hounsfield, sliding_window

IN_PLANE = (1, 2)  # Axes of mirror images, as in `inference.volumes`.
UNKNOWN_MM = (1.0, 1.0, 1.0)  # Not looked at where the network has no spacing of its own.


def predict(
    network: exported.Exported,
    image: np.ndarray,
    lungs: np.ndarray | None,
    spacing_mm: tuple[float, float, float] | None,
) -> np.ndarray:
    """Probabilities on a CT's own voxels, as `inference.volumes.predict_record`.

    Args:
        network: from `exported.load`.
        image: [D, H, W] int16 HU.
        lungs: [D, H, W] bool or None: where foreground may be, if the network's run was inside
            lungs.
        spacing_mm: along D, H, W.

    Returns:
        [D, H, W] float32; 0 where none may be found.

    Raises:
        ValueError: the network has a spacing of its own, and `spacing_mm` is None; or one that no
            CT has.
    """
    how = network.manifest["volumes"]
    if spacing_mm is None and any(how["spacing_mm"]):
        raise ValueError(
            f"{network.path}: trained at a spacing of {how['spacing_mm']} mm; want spacing_mm of "
            "the CT, got None."
        )
    spacing = spacing_mm or UNKNOWN_MM
    if doubt := hounsfield.doubt(image, window="none"):
        logging.getLogger(__name__).warning("the image has %s", doubt)
    mask = np.zeros(image.shape, np.uint8) if lungs is None else lungs * np.uint8(record.LUNG)
    item = record.VolumeRecord(image, mask, spacing, image.shape, np.eye(4), "", "", "")
    volume = volumes.load(item, _settings(network))
    inside = how["inside_lungs"] and lungs is not None

    def forward(batch: dict[str, jax.Array]) -> jax.Array:
        return network.run(batch["images"], batch["masks"] if network.needs_lungs else None)[0]

    probs = sliding_window.predict(
        forward,
        {"images": volume.image, "masks": volume.mask},
        window=network.manifest["size"],
        overlap=how["overlap"],
        batch_size=how["batch_size"],
        mirror_axes=IN_PLANE if how["mirror"] else (),
        within=volume.mask & record.LUNG != 0 if inside else None,
    )
    restored = volumes.restore(probs, volume, image.shape)
    if inside and volume.resampled_shape != image.shape:
        np.copyto(restored, 0, where=mask == 0)
    return restored


def find_foreground(network: exported.Exported, probs: np.ndarray) -> np.ndarray:
    """[D, H, W] probabilities to uint8 levels: above the border, the largest parts."""
    levels = network.levels(probs)
    keep_largest = network.manifest["volumes"]["keep_largest"]
    return components.largest(levels > 0, keep_largest).view(np.uint8) if keep_largest else levels


def _settings(network: exported.Exported) -> types.SimpleNamespace:
    """What `volumes.load` reads of a run's settings."""
    how = network.manifest["volumes"]
    return types.SimpleNamespace(
        patch_size=tuple(network.manifest["size"]),
        spacing_mm=tuple(how["spacing_mm"]),
        crop_to_lungs=how["crop_to_lungs"],
    )
