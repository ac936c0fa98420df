"""Somebody's CT as a record, a NIfTI file or a DICOM series, and a mask back on its own grid."""

import gzip
import io
import math
import os
import pathlib
import zlib
from typing import BinaryIO

import nibabel
import numpy as np
import pydicom
from absl import logging

from jaxlung.data import record as record_lib
from jaxlung.predict import formats, quiet
from jaxlung.volume import dicom, grid, hounsfield, nifti

_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}  # by their own size
_LONGEST_HEADER = 540  # bytes
_CHUNK = 1 << 20  # bytes
# Our choices. NIfTI files carry more than voxels: headers, extensions, padding.
_MOST_BESIDE_VOXELS = 16 << 20  # bytes
# Pydicom inflates a whole dataset at once, and deflate expands up to a thousandfold.
_MOST_DEFLATED = 2 << 20  # bytes


def read(path: os.PathLike[str] | str, max_voxels: int) -> record_lib.VolumeRecord:
    """A CT without annotation, in canonical order.

    The limit holds for what headers declare, before voxels are read. A compressed NIfTI is
    unpacked no further than its shape explains and 16 MiB beyond, so that neither a small file
    that expands nor a header that lies fills the memory.

    A warning is logged where values hardly look like HU (`hounsfield.doubt`).

    Args:
        path: a NIfTI file (.nii, .nii.gz; told by its content), or the folder of a DICOM series.
        max_voxels: the largest volume that is read.

    Returns:
        Its mask is all 0, group "" and label 0; both ids are the name without .nii or .nii.gz,
        as a patient's name has no place in outputs.

    Raises:
        ValueError: naming the file or folder: too large, damaged, or not what is wanted
            (`nifti.read`, `dicom.read_series`).
        OSError: it can't be opened.
    """
    path = pathlib.Path(path)
    values, where = (_read_series if path.is_dir() else _read_nifti)(path, max_voxels)
    if doubt := hounsfield.doubt(values):
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


def _read_nifti(path: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    if formats.sniff(path) == "DICOM":
        raise ValueError(
            f"{path}: want a NIfTI file or the folder of a DICOM series, got one DICOM file."
        )
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        content = (_unzipped if is_gzip else _content)(file, path, max_voxels)
    return nifti.read(content, str(path))


def _unzipped(file: BinaryIO, path: pathlib.Path, max_voxels: int) -> bytes:
    try:
        with gzip.open(file) as unzipped:
            return _content(unzipped, path, max_voxels)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip ({error}).") from error


def _content(file: BinaryIO, path: pathlib.Path, max_voxels: int) -> bytes:
    """A whole NIfTI, which must end where its header lets expect."""
    start = file.read(_LONGEST_HEADER)
    most = _bytes_of_voxels(start, path, max_voxels) + _MOST_BESIDE_VOXELS
    # By pieces: read(most) would set aside at once what a header only claims.
    content = io.BytesIO()
    content.write(start)
    while piece := file.read(_CHUNK):
        content.write(piece)
        if content.tell() > most:
            raise ValueError(
                f"{path}: want at most {most:,} bytes for the shape in its header, got more."
            )
    return content.getvalue()


def _bytes_of_voxels(start: bytes, path: pathlib.Path, max_voxels: int) -> int:
    """What a header declares; 0 if it is none or of no use, as `nifti.read` will say."""
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")} & set(_HEADERS)
    size = sizes.pop() if sizes else 0
    if not 0 < size <= len(start):
        return 0
    header = _HEADERS[size](start[:size], check=False)
    shape = header["dim"][1 : 1 + max(0, int(header["dim"][0]))].tolist()
    if not shape or min(shape) < 1:
        return 0
    _require_within(path, math.prod(shape), max_voxels, f"a volume of shape {tuple(shape)}")
    try:
        return math.prod(shape) * header.get_data_dtype().itemsize
    except (nibabel.spatialimages.HeaderDataError, KeyError):
        return 0


def _read_series(folder: pathlib.Path, max_voxels: int) -> tuple[np.ndarray, grid.Grid]:
    paths = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    with quiet.region():
        sizes = [_num_pixels(path) for path in paths]
        _require_within(folder, sum(sizes), max_voxels, f"{np.count_nonzero(sizes)} slices")
        return dicom.read_series(folder)


def _num_pixels(path: pathlib.Path) -> int:
    """Rows times columns that a file declares; 0 if it is no DICOM image or can't be read."""
    try:
        syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
        is_deflated = syntax.is_deflated
    except Exception:  # Of many kinds; `dicom.read_series` says what is wrong, or passes it over.
        return 0
    if is_deflated and path.stat().st_size > _MOST_DEFLATED:
        raise ValueError(
            f"{path}: want at most {_MOST_DEFLATED:,} bytes of a deflated dataset, got "
            f"{path.stat().st_size:,}."
        )
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows) * int(header.Columns)
    except Exception:  # Likewise.
        return 0


def _require_within(path: pathlib.Path, num_voxels: int, max_voxels: int, what: str) -> None:
    if num_voxels > max_voxels:
        raise ValueError(
            f"{path}: want at most {max_voxels:,} voxels (max_voxels), got {what} with "
            f"{num_voxels:,}."
        )
