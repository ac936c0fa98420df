"""Reads one case as a TFDS example: CT in HU and masks, checked, in canonical order."""

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from scipy import ndimage

from jaxlung.volume import grid as grid_lib
from jaxlung.volume import hounsfield, nifti
from tfds_builders import raw_tree
from tfds_builders.covid19_ct_seg import layout

LEFT, RIGHT, INFECTED = 1, 2, 3  # Labels; masks of the lungs alone have no 3.

_LABEL_TOLERANCE = 0.1  # Files stored as float have 1.9999; a half comes from resampling.


def features() -> tfds.features.FeaturesDict:
    """Returns the features of an example."""

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
        ValueError: a file is damaged, is not 3D, has other voxels than its CT, or has unknown
            labels; names the file.
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
    """Reads lungs (0, 1, 2) and infection (0, 1), from files of their own if there are any."""

    def read(mask: str, highest: int) -> np.ndarray:
        return _read_labels(tree, sample.ct, grid, mask, highest)

    if sample.lung_mask and sample.infection_mask:
        return read(sample.lung_mask, RIGHT), read(sample.infection_mask, 1)
    assert sample.both_mask is not None  # `layout.find_samples` requires it here.
    both = read(sample.both_mask, INFECTED)
    if sample.infection_mask:
        lungs = with_sides(both, grid, f"{tree.where}: {sample.both_mask}")
        return lungs, read(sample.infection_mask, 1)
    infection = np.asarray(both == INFECTED, np.uint8)
    if sample.lung_mask:
        return read(sample.lung_mask, RIGHT), infection
    return with_sides(both, grid, f"{tree.where}: {sample.both_mask}"), infection


def _read_labels(
    tree: raw_tree.RawTree, ct: str, grid: grid_lib.Grid, mask: str, highest: int
) -> np.ndarray:
    """Reads [I, J, K] uint8 labels from 0 to `highest`, on the grid of the CT."""
    name = f"{tree.where}: {mask}"
    values, mask_grid = nifti.read(tree.read(mask), name)
    grid_lib.require_same(f"{tree.where}: {ct}", grid, name, mask_grid)
    return to_labels(values, highest, name)


def to_labels(values: np.ndarray, highest: int, name: str) -> np.ndarray:
    """Rounds labels to uint8, because files that were resampled or scaled have 1.9999.

    Args:
        values: integers or floats, of any shape.
        highest: highest label; the lowest is 0.
        name: name of the file in errors.

    Raises:
        ValueError: a value outside [0, highest], or more than 0.1 away from a whole number.
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
    """Returns the lungs of a mask of lungs and infection; infection becomes the nearest lung.

    The distance is in mm (our choice; the file doesn't state which lung is infected).

    Args:
        labels: [I, J, K] uint8, 0 to 3.
        grid: grid of `labels`.
        name: name of the file in errors.

    Returns:
        [I, J, K] uint8, 0, 1 left, 2 right.

    Raises:
        ValueError: there is infection but no lung.
    """
    lungs = np.where(labels == INFECTED, np.uint8(0), labels)
    if not (labels == INFECTED).any():
        return lungs
    if not lungs.any():
        raise ValueError(f"{name}: want labels 1 and 2 for the lungs, got infection (3) alone.")
    # Three int32 for every voxel are kept, so leave out the voxels around the body.
    (box,) = ndimage.find_objects((labels > 0).astype(np.uint8))
    spacing_mm = np.linalg.norm(grid.affine[:3, :3], axis=0)
    nearest = ndimage.distance_transform_edt(
        lungs[box] == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    infected = labels[box] == INFECTED
    lungs[box][infected] = lungs[box][tuple(nearest)][infected]
    return lungs
