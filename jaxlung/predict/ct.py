"""Somebody's CT as a record, a NIfTI file or a DICOM series, and a mask back on its own grid."""

import os
import pathlib

import numpy as np
from absl import logging

from jaxlung.data import record as record_lib
from jaxlung.predict import formats, quiet
from jaxlung.volume import dicom, dicom_file, grid, hounsfield, nifti


def read(path: os.PathLike[str] | str, max_voxels: int) -> record_lib.VolumeRecord:
    """A CT without annotation, in canonical order.

    The limit holds for what headers declare, before voxels are read.

    A warning is logged where values hardly look like HU (`hounsfield.doubt`), or voxel sizes like
    those of a chest in mm (`grid.doubt`).

    Args:
        path: a NIfTI file (.nii, .nii.gz; told by its content), or the folder of a DICOM series.
        max_voxels: the largest volume that is read.

    Returns:
        Its mask is all 0, group "" and label 0; both ids are the name without .nii or .nii.gz,
        as a patient's name has no place in outputs.

    Raises:
        ValueError: naming the file or folder: too large, damaged, or not what is wanted
            (`nifti.read`, `dicom.read_series`, `hounsfield.require_ct`).
        OSError: it can't be opened.
    """
    path = pathlib.Path(path)
    values, where = (_read_series if path.is_dir() else _read_nifti)(path, max_voxels)
    hounsfield.require_ct(values, str(path))
    for doubt in filter(None, (hounsfield.doubt(values), grid.doubt(where))):
        logging.warning("%s: %s", path, doubt)
    hu, _ = hounsfield.to_hu(values, str(path))
    image = grid.to_canonical(hu, where)
    name = nifti.case_name(path)
    return record_lib.VolumeRecord(
        image=image,
        mask=np.zeros(image.shape, np.uint8),
        spacing_mm=grid.canonical_spacing_mm(where),
        shape=where.shape,
        affine=where.affine,
        image_id=name,
        patient_id=name,
        group="",
        label=0,
    )


def write(path: os.PathLike[str] | str, mask: np.ndarray, record: record_lib.VolumeRecord) -> None:
    """Writes a mask, or probabilities, on the grid of the record's file; whole or not at all.

    A NIfTI file gets its own order of axes and affine back; a DICOM series becomes columns,
    rows, slices as in the scanner's space, where viewers lay it over the series.

    Args:
        path: ends in .nii.gz; its folder is there.
        mask: [D, H, W] bool (0 and 1 in the file), uint8, int16 or float32, in canonical order.
        record: what `read` gave.

    Raises:
        ValueError: naming the file: another ending, dtype or shape.
    """
    if mask.shape != record.image.shape:
        raise ValueError(f"{path}: want a mask of {record.image.shape}, got {mask.shape}.")
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    file_grid = grid.Grid(record.shape, record.affine)
    nifti.write(path, grid.from_canonical(mask, file_grid), file_grid)


def refuse(path: os.PathLike[str] | str) -> ValueError:
    """Returns why a single picture is no CT, as the error to raise."""
    path = pathlib.Path(path)
    got = "a picture"
    if formats.sniff(path) == "DICOM":
        with quiet.region():
            header = dicom_file.read(path, dicom_file.ROLE_TAGS, pixels=False)
            role = dicom_file.role(path, header)
        if role.frames != 1:
            return dicom_file.multi_frame(path, role.frames)
        got = f"one DICOM file ({role.modality or 'of no modality'})"
    return ValueError(
        f"{path}: want a CT (NIfTI, or the folder of a DICOM series), as the network does, got "
        f"{got}."
    )


def _read_nifti(path: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    if formats.sniff(path) == "DICOM":
        raise refuse(path)
    return nifti.read(path, str(path), max_voxels)


def _read_series(folder: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    with quiet.region():
        return dicom.read_series(folder, max_voxels)
