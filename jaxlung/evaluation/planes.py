"""Three planes of a volume that show most of what is looked for, for the report to draw."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung.data import record
from jaxlung.host import files
from jaxlung.metrics import overlap
from jaxlung.volume import hounsfield

PLANES = ("axial", "coronal", "sagittal")  # Perpendicular to D, H, W.
SHOWN_HU = (-1250.0, 250.0)  # the window in which lungs and their disease show


def cut(
    item: record.VolumeRecord, preds: np.ndarray, levels: np.ndarray, confusion: np.ndarray
) -> dict[str, Any]:
    """The slice of each plane with most annotated voxels; with none, most predicted or of lung.

    Coronal and sagittal slices have the patient's head at the top.

    Args:
        item: the volume.
        preds: [D, H, W] bool.
        levels: [D, H, W] bool, the annotation.
        confusion: [2, 2] of both.

    Returns:
        "image_id", "dice" and for each plane "<plane>_image" [., .] uint8, "<plane>_pred" and
        "<plane>_target" [., .] bool, "<plane>_index" of the slice, and "<plane>_aspect", height
        over width of a pixel.
    """
    arrays = {"image_id": item.image_id, "dice": overlap.binary_scores(confusion)["dice"]}
    sought = next(
        (mask for mask in (levels, preds, item.mask & record.LUNG != 0) if mask.any()), levels
    )
    for axis, plane in enumerate(PLANES):
        others = tuple(other for other in range(3) if other != axis)
        index = int(sought.sum(axis=others).argmax())
        tall, wide = (item.spacing_mm[other] for other in others)

        def take(array: np.ndarray, axis: int = axis, index: int = index) -> np.ndarray:
            plane = array.take(index, axis=axis)
            return plane if axis == 0 else plane[::-1]  # Slices grow upwards.

        shown = hounsfield.scale(take(item.image), SHOWN_HU)
        arrays |= {
            f"{plane}_image": np.rint(255 * shown).astype(np.uint8),
            f"{plane}_pred": take(preds),
            f"{plane}_target": take(levels),
            f"{plane}_index": index,
            f"{plane}_aspect": tall / wide,
        }
    return arrays


def write(path: epath.Path, drawn: Sequence[dict[str, Any]]) -> None:
    """Saves the planes of several volumes as `path` (.npz), keys "<number>_<name>" of `cut`."""
    arrays = {f"{i}_{name}": value for i, each in enumerate(drawn) for name, value in each.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write_bytes(path, content.getvalue())
