"""One record as arrays of fixed shape, the same on both data roads."""

import numpy as np

from jaxlung.data import record, resize
from jaxlung.data import settings as settings_lib


def shapes(settings: settings_lib.Settings) -> dict[str, tuple[int, ...]]:
    """Shape of each array of `make`; all are uint8."""
    size = settings.image_size
    return {"images": (size, size), "masks": (size, size), "labels": ()}


def make(item: record.Record, settings: settings_lib.Settings) -> dict[str, np.ndarray]:
    """A record at the network's size: "images", "masks" [S, S] and "labels" [], uint8."""
    image, mask = resize.fit(item.image, item.mask, settings.image_size, settings.resize)
    return {"images": image, "masks": mask, "labels": np.uint8(item.label)}
