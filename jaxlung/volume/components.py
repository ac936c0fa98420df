"""Connected components of a predicted mask: keeps the largest ones."""

import numpy as np
from scipy import ndimage


def largest(mask: np.ndarray, count: int) -> np.ndarray:
    """Returns the `count` largest connected components of a mask; of equal ones the first.

    Voxels are connected across faces, edges and corners (26 neighbours). Among components of one
    size the first in C order counts as larger.

    Args:
        mask: [D, H, W] bool.
        count: number of components to keep, 1 or more (2 for a pair of lungs).

    Returns:
        [D, H, W] bool, a subset of `mask`; all of it if it has no more components than `count`.

    Raises:
        ValueError: the mask is not bool or not 3D, or the count is below 1.
    """
    if mask.dtype != bool or mask.ndim != 3:
        raise ValueError(f"largest: got {mask.shape} {mask.dtype}, want a [D, H, W] bool mask.")
    if count < 1:
        raise ValueError(f"largest: count: got {count}, want 1 or more.")
    kept = np.zeros_like(mask)
    for box in ndimage.find_objects(mask.view(np.uint8)):  # One box; none if the mask is empty.
        labels, _ = ndimage.label(mask[box], np.ones((3, 3, 3)))
        # Only the foreground is counted, because bincount converts its argument to int64.
        sizes = np.bincount(labels[mask[box]])
        chosen = np.zeros(len(sizes), bool)
        chosen[np.argsort(-sizes, kind="stable")[:count]] = True
        chosen[0] = False  # The background.
        kept[box] = chosen[labels]
    return kept
