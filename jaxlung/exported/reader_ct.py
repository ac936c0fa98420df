"""Predicts whole CTs with an exported network, by overlapping windows as the run it came from.

Needs SciPy; `reader` imports this module for CTs alone.
"""

import logging
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.volume import components, hounsfield, sliding_window

IN_PLANE = (1, 2)  # Axes of mirror images, as in `training.inference.volumes`.
UNKNOWN_MM = (1.0, 1.0, 1.0)  # Has no effect where the network has no spacing of its own.


def predict(
    run: Callable[[Any, Any], tuple[jax.Array, jax.Array]],
    manifest: Mapping[str, Any],
    image: np.ndarray,
    lungs: np.ndarray | None,
    spacing_mm: tuple[float, float, float] | None,
) -> np.ndarray:
    """Returns probabilities on a CT's own voxels, as `training.inference.volumes` does.

    Args:
        run: the program, see `reader.Exported`.
        manifest: the content of the file's manifest.
        image: [D, H, W] int16 HU.
        lungs: [D, H, W] bool, where foreground may be found if the run looked inside the lungs
            alone; None for everywhere.
        spacing_mm: distances between voxels along D, H, W; None if the network has no spacing of
            its own.

    Returns:
        [D, H, W] float32 in [0, 1]; 0 where no foreground may be found.

    Raises:
        ValueError: the spacing is outside of what CTs have.
    """
    how = manifest["volumes"]
    if doubt := hounsfield.doubt(image, window="none"):
        logging.getLogger(__name__).warning("the image has %s", doubt)
    mask = np.zeros(image.shape, np.uint8) if lungs is None else lungs * np.uint8(record.LUNG)
    spacing_mm = spacing_mm or UNKNOWN_MM
    item = record.VolumeRecord(image, mask, spacing_mm, image.shape, np.eye(4), "", "", "")
    volume = volumes.load(item, _settings(manifest))  # type: ignore[arg-type] # has what it reads
    inside = how["inside_lungs"] and lungs is not None

    def forward(batch: dict[str, jax.Array]) -> jax.Array:
        return run(batch["images"], batch["masks"] if "masks" in manifest["inputs"] else None)[0]

    probs = sliding_window.predict(
        forward,
        {"images": volume.image, "masks": volume.mask},
        window=manifest["size"],
        overlap=how["overlap"],
        batch_size=how["batch_size"],
        mirror_axes=IN_PLANE if how["mirror"] else (),
        within=volume.mask & record.LUNG != 0 if inside else None,
    )
    restored = volumes.restore(probs, volume, image.shape)
    if inside and volume.resampled_shape != image.shape:
        np.copyto(restored, 0, where=mask == 0)
    return restored


def keep_largest(levels: np.ndarray, count: int) -> np.ndarray:
    """Returns levels [D, H, W] uint8 with the `count` largest pieces alone; 0 keeps all."""
    return components.largest(levels > 0, count).view(np.uint8) if count else levels


def _settings(manifest: Mapping[str, Any]) -> types.SimpleNamespace:
    """Returns the settings of a run that `volumes.load` reads."""
    how = manifest["volumes"]
    return types.SimpleNamespace(
        patch_size=tuple(manifest["size"]),
        spacing_mm=tuple(how["spacing_mm"]),
        crop_to_lungs=how["crop_to_lungs"],
    )
