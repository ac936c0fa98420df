"""One record as arrays of fixed shape, the same in both feeds."""

import jax
import numpy as np

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.transforms import resize


def specs(settings: settings_lib.Settings) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape and type of each array of an example."""
    is_patch = isinstance(settings, settings_lib.PatchSettings)
    return {
        "images": jax.ShapeDtypeStruct(settings.input_shape, np.int16 if is_patch else np.uint8),
        "masks": jax.ShapeDtypeStruct(settings.input_shape, np.uint8),
        "labels": jax.ShapeDtypeStruct((), np.uint8),
    }


def make(item: record.Record, settings: settings_lib.ImageSettings) -> dict[str, np.ndarray]:
    """Returns a record at the network's size: "images", "masks" [S, S] and "labels" [], uint8."""
    image, mask = resize.fit(item.image, item.mask, settings.image_size, settings.resize)
    return {"images": image, "masks": mask, "labels": np.asarray(item.label, np.uint8)}
