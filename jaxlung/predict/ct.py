"""Reads a user's CT (NIfTI or DICOM series) as a record, and writes masks on its own grid."""

import os
import pathlib

import numpy as np
from absl import logging

from jaxlung.data import record as record_lib
from jaxlung.predict import formats, quiet
from jaxlung.volume import dicom, dicom_file, grid, hounsfield, nifti


def read(path: os.PathLike[str] | str, max_voxels: int) -> record_lib.VolumeRecord:
    """Reads a CT without annotation, in canonical order.

    Logs a warning if the values don't look like HU (`hounsfield.doubt`), or the extent not like
    that of a chest in mm (`grid.doubt`).

    Args:
        path: a NIfTI file (.nii or .nii.gz, recognised by content) or the folder of a DICOM series.
        max_voxels: largest volume to read, checked against the headers before voxels are read.

    Returns:
        A record with mask 0, group "" and label 0. Both ids are the file's name without .nii or
        .nii.gz, because a patient's name must not appear in outputs.

    Raises:
        ValueError: the CT is too large, damaged or none (see `nifti.read`, `dicom.read_series` and
            `hounsfield.require_ct`); names the file or folder.
        OSError: the file can't be opened.
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
    """Writes a mask or probabilities as NIfTI on the grid of the record's file.

    The output has the axis order and affine of the user's NIfTI file. For a DICOM series the axes
    are columns, rows, slices in the scanner's space, so that viewers overlay it on the series. The
    file is written whole or not at all.

    Args:
        path: a name that ends in .nii.gz, in an existing folder.
        mask: [D, H, W] bool (0 and 1 in the file), uint8, int16 or float32, in canonical order.
        record: the record from `read`.

    Raises:
        ValueError: the name has another ending, or the mask another dtype or shape; names the
            file.
    """
    if mask.shape != record.image.shape:
        raise ValueError(f"{path}: want a mask of {record.image.shape}, got {mask.shape}.")
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    file_grid = grid.Grid(record.shape, record.affine)
    nifti.write(path, grid.from_canonical(mask, file_grid), file_grid)


def refuse(path: os.PathLike[str] | str) -> ValueError:
    """Returns the error to raise for a single picture where a CT is needed."""
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
        f"{path}: the network needs a CT (NIfTI, or the folder of a DICOM series), got {got}."
    )


def _read_nifti(path: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    if formats.sniff(path) == "DICOM":
        raise refuse(path)
    return nifti.read(path, str(path), max_voxels)


def _read_series(folder: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    with quiet.region():
        return dicom.read_series(folder, max_voxels)
