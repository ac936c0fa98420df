"""One case as a TFDS example: CT and masks read, checked, in HU and in canonical order."""

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from scipy import ndimage

from jaxlung.volume import grid as grid_lib
from jaxlung.volume import hounsfield, nifti
from tfds_builders import raw_tree
from tfds_builders.covid19_ct_seg import layout

LEFT, RIGHT, INFECTED = 1, 2, 3  # In masks of lungs and infection; the lungs' own have no 3.

_LABEL_TOLERANCE = 0.1  # Files stored as float have 1.9999; a half is someone's resampling.


def features() -> tfds.features.FeaturesDict:
    """Features of an example."""

    def volume(dtype: type, doc: str) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=(None, None, None), dtype=dtype, encoding="zlib", doc=doc)

    return tfds.features.FeaturesDict(
        {
            "ct": volume(np.int16, "HU; slices, rows, columns to superior, posterior, left."),
            "lung_mask": volume(np.uint8, "1 left, 2 right."),
            "infection_mask": volume(np.uint8, "0 or 1."),
            "affine": tfds.features.Tensor(
                shape=(4, 4), dtype=np.float64, doc="Of the file: voxel (i, j, k) to RAS+ mm."
            ),
            "shape": tfds.features.Tensor(shape=(3,), dtype=np.int32, doc="Of the file."),
            "spacing_mm": tfds.features.Tensor(
                shape=(3,), dtype=np.float32, doc="Along slices, rows, columns."
            ),
            "orientation": tfds.features.Text(doc="Of the file, as LPS."),
            "intensities": tfds.features.Text(doc="Of the file: hu or windowed."),
            "label": tfds.features.ClassLabel(names=list(layout.SOURCES)),
            "image_id": tfds.features.Text(doc="Case; unique."),
            "patient_id": tfds.features.Text(doc="Person."),
        }
    )


def make_example(tree: raw_tree.RawTree, sample: layout.Sample) -> dict[str, object]:
    """Reads the files of a case as an example of `features`.

    Raises:
        ValueError: naming the file: damaged, not 3D, of other voxels than its CT, or with labels
            that are not known.
    """
    name = f"{tree.where}: {sample.ct}"
    values, grid = nifti.read(tree.read(sample.ct), name)
    hounsfield.require_ct(values, name)
    if doubt := hounsfield.doubt(values, window="known"):
        logging.warning("%s: %s", name, doubt)
    hu, intensities = hounsfield.to_hu(values, name)
    lungs, infection = _read_masks(tree, sample, grid)
    return {
        "ct": grid_lib.to_canonical(hu, grid),
        "lung_mask": grid_lib.to_canonical(lungs, grid),
        "infection_mask": grid_lib.to_canonical(infection, grid),
        "affine": grid.affine,
        "shape": np.array(grid.shape, np.int32),
        "spacing_mm": np.array(grid_lib.canonical_spacing_mm(grid), np.float32),
        "orientation": grid_lib.orientation(grid),
        "intensities": intensities,
        "label": sample.source,
        "image_id": sample.case_id,
        "patient_id": sample.patient_id,
    }


def _read_masks(
    tree: raw_tree.RawTree, sample: layout.Sample, grid: grid_lib.Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Lungs (0, 1, 2) and infection (0, 1) on the file's grid, each of its own file if it can."""
    both = None
    if sample.lung_mask is None or sample.infection_mask is None:
        both = _read_labels(tree, sample.ct, grid, sample.both_mask, INFECTED)
    if sample.lung_mask is None:
        lungs = with_sides(both, grid, f"{tree.where}: {sample.both_mask}")
    else:
        lungs = _read_labels(tree, sample.ct, grid, sample.lung_mask, RIGHT)
    if sample.infection_mask is None:
        return lungs, (both == INFECTED).astype(np.uint8)
    return lungs, _read_labels(tree, sample.ct, grid, sample.infection_mask, 1)


def _read_labels(
    tree: raw_tree.RawTree, ct: str, grid: grid_lib.Grid, mask: str, highest: int
) -> np.ndarray:
    """[I, J, K] uint8 labels of 0 to `highest`, on the grid of the CT."""
    name = f"{tree.where}: {mask}"
    values, mask_grid = nifti.read(tree.read(mask), name)
    grid_lib.require_same(f"{tree.where}: {ct}", grid, name, mask_grid)
    return to_labels(values, highest, name)


def to_labels(values: np.ndarray, highest: int, name: str) -> np.ndarray:
    """Whole numbers as uint8, as files that were once resampled or scaled have 1.9999.

    Args:
        values: of any shape, integer or float.
        highest: label; 0 is the lowest.
        name: what errors call the file.

    Raises:
        ValueError: a value off [0, highest], or further than 0.1 from a whole number.
    """
    labels = np.rint(values)
    bad = (labels < 0) | (labels > highest) | (np.abs(values - labels) > _LABEL_TOLERANCE)
    if bad.any():
        raise ValueError(
            f"{name}: want labels from 0 to {highest}, got {values[bad][0]:g} "
            f"({np.count_nonzero(bad)} of {bad.size} voxels)."
        )
    return labels.astype(np.uint8)


def with_sides(labels: np.ndarray, grid: grid_lib.Grid, name: str) -> np.ndarray:
    """Lungs of a mask of lungs and infection: an infected voxel is of the lung nearest to it.

    The distance is in mm (our choice; the file doesn't say which lung is infected).

    Args:
        labels: [I, J, K] uint8, 0 to 3.
        grid: of `labels`.
        name: what errors call the file.

    Returns:
        [I, J, K] uint8, 0, 1 left, 2 right.

    Raises:
        ValueError: infection, but no lung.
    """
    lungs = np.where(labels == INFECTED, np.uint8(0), labels)
    if not (labels == INFECTED).any():
        return lungs
    if not lungs.any():
        raise ValueError(f"{name}: want labels 1 and 2 for the lungs, got infection (3) alone.")
    # Three int32 for every voxel: not for those around the body.
    (box,) = ndimage.find_objects((labels > 0).astype(np.uint8))
    spacing_mm = np.linalg.norm(grid.affine[:3, :3], axis=0)
    nearest = ndimage.distance_transform_edt(
        lungs[box] == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    infected = labels[box] == INFECTED
    lungs[box][infected] = lungs[box][tuple(nearest)][infected]
    return lungs
