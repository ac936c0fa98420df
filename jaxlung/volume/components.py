"""Connected pieces of a predicted mask: what is kept of a prediction after the threshold."""

import numpy as np
from scipy import ndimage


def largest(mask: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest connected pieces of a mask; of equals the first in C order.

    Voxels are neighbours across faces, edges and corners (26 in 3D).

    Args:
        mask: [D, H, W] bool.
        count: 1 or more (2 for a pair of lungs); fewer pieces all stay.

    Returns:
        [D, H, W] bool, a subset of `mask`.

    Raises:
        ValueError: a mask that is not bool or not 3D, or a count below 1.
    """
    if mask.dtype != bool or mask.ndim != 3:
        raise ValueError(f"largest: got {mask.shape} {mask.dtype}, want a [D, H, W] bool mask.")
    if count < 1:
        raise ValueError(f"largest: count: got {count}, want 1 or more.")
    kept = np.zeros_like(mask)
    for box in ndimage.find_objects(mask.view(np.uint8)):  # One box, or none if mask is empty.
        labels, _ = ndimage.label(mask[box], np.ones((3, 3, 3)))
        # Counting foreground alone: bincount makes int64 of what it counts.
        sizes = np.bincount(labels[mask[box]])
        chosen = np.zeros(len(sizes), bool)
        chosen[np.argsort(-sizes, kind="stable")[:count]] = True
        chosen[0] = False  # The background.
        kept[box] = chosen[labels]
    return kept
