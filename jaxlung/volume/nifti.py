"""Reads and writes NIfTI-1 and NIfTI-2 files (.nii, .nii.gz) as arrays on a grid."""

import gzip
import io
import logging as std_logging
import math
import os
import re
import zlib
from typing import IO

import nibabel
import numpy as np
from absl import logging
from etils import epath

from jaxlung.host import files
from jaxlung.volume import grid as grid_lib
from jaxlung.volume import resample

_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}  # by size in bytes
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_WRITABLE = ("uint8", "int16", "float32")
# Nibabel logs every oddity of a header; this module reports what matters itself.
_SILENT = std_logging.Logger("nifti", level=std_logging.CRITICAL)
_CHUNK = 1 << 20  # bytes
# Our choice. NIfTI files hold more than voxels: headers, extensions, padding.
_MOST_BESIDE_VOXELS = 16 << 20  # bytes
_SPACING_TOLERANCE = 0.01  # relative difference between two fields that give the voxel size
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT: the affine leads to the scanner's own coordinates


def read(
    path_or_bytes: os.PathLike[str] | str | bytes, name: str, max_voxels: int | None = None
) -> tuple[np.ndarray, grid_lib.Grid]:
    """Reads a 3D volume in the file's own axis order, with its scaling applied.

    The place in space comes from the header's sform, else from its qform. A sform of zeros is
    ignored if there is a qform. With neither, it comes from the voxel sizes, with i pointing to the
    left and the volume's centre at 0 (nibabel's reading of ANALYZE), and a warning is logged.
    Another warning is logged if the sform's voxel sizes differ from pixdim. Metres and microns are
    converted to mm.

    A compressed file is unpacked to the size that its header implies and at most 16 MiB more, so
    that neither a small file that expands nor a false header fills the memory.

    Args:
        path_or_bytes: a .nii or .nii.gz file, or its content; gzip is recognised by content.
        name: name of the file, for messages.
        max_voxels: largest volume to read, checked against the header first; None for any.

    Returns:
        The array [I, J, K], perhaps read-only, and its grid. The array has the stored dtype if that
        is an integer without scaling, else float32.

    Raises:
        ValueError: the file is too large, damaged, truncated or no NIfTI; it is not 3D (a fourth
            axis of length 1 is allowed) or has an empty axis; voxels are NaN, infinite, complex or
            colours; the affine is singular; voxel sizes that are needed are 0, negative or NaN, or
            outside of what CTs have (`grid.Grid`). The message names the file.
        OSError: the file can't be opened.
    """
    if isinstance(path_or_bytes, bytes):
        opened = io.BytesIO(path_or_bytes)
    else:
        opened = epath.Path(path_or_bytes).open("rb")
    try:
        with opened as file:
            content = _content(file, max_voxels)
        return _parse(content, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def write(path: os.PathLike[str] | str, array: np.ndarray, grid: grid_lib.Grid) -> None:
    """Writes a .nii.gz file whole or not at all; the same input gives the same bytes.

    The affine becomes the sform. It becomes the qform, too, unless it is sheared, which a qform
    can't express. Both are in the scanner's coordinates (code 1), in mm.

    Args:
        path: a name that ends in .nii.gz.
        array: [I, J, K] uint8, int16 or float32, in the file's axis order (`from_canonical`).
        grid: the array's grid.

    Raises:
        ValueError: the name has another ending, or the array another dtype or shape; names the
            file.
    """
    file = epath.Path(path)
    if not file.name.endswith(".nii.gz"):
        raise ValueError(f"{file}: want a name that ends in .nii.gz.")
    if array.dtype.name not in _WRITABLE:
        raise ValueError(f"{file}: want one of {', '.join(_WRITABLE)}, got {array.dtype}.")
    if array.shape != grid.shape:
        raise ValueError(f"{file}: want the grid's shape {grid.shape}, got {array.shape}.")
    image = nibabel.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=_SCANNER)
    image.set_qform(grid.affine, code=_SCANNER, strip_shears=True)
    if not np.allclose(image.get_qform(), grid.affine, atol=1e-3):
        image.set_qform(None, code=0)
    # Level 6 takes three times as long for a CT and saves 2 %.
    files.write_bytes(file, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def case_name(path: os.PathLike[str] | str) -> str:
    """Returns the file's name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", epath.Path(path).name, flags=re.IGNORECASE)


def _content(file: IO[bytes], max_voxels: int | None) -> bytes:
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    if not is_gzip:
        return _bounded(file, max_voxels)
    try:
        with gzip.open(file) as unzipped:
            return _bounded(unzipped, max_voxels)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"truncated or damaged gzip ({error}).") from error


def _bounded(file: IO[bytes] | gzip.GzipFile, max_voxels: int | None) -> bytes:
    """Returns a whole NIfTI file, which must be no longer than its header implies."""
    start = file.read(max(_HEADERS))
    most = _bytes_of_voxels(start, max_voxels) + _MOST_BESIDE_VOXELS
    # In pieces, because read(most) would allocate at once all that a header claims.
    content = io.BytesIO()
    content.write(start)
    while piece := file.read(_CHUNK):
        content.write(piece)
        if content.tell() > most:
            raise ValueError(f"want at most {most:,} bytes for the shape in its header, got more.")
    return content.getvalue()


def _bytes_of_voxels(start: bytes, max_voxels: int | None) -> int:
    """Returns the bytes of voxels that a header declares; 0 for a bad one, which `_parse` refuses.

    Raises:
        ValueError: the header declares more than `max_voxels`.
    """
    header = _raw_header(start)
    if header is None:
        return 0
    shape = _declared_shape(header)
    if not shape or min(shape) < 1:
        return 0
    num_voxels = math.prod(shape)
    if max_voxels is not None and num_voxels > max_voxels:
        raise ValueError(
            f"want at most {max_voxels:,} voxels (max_voxels), got a volume of shape {shape} with "
            f"{num_voxels:,}."
        )
    try:
        return num_voxels * header.get_data_dtype().itemsize
    except (nibabel.spatialimages.HeaderDataError, KeyError):
        return 0


def _parse(content: bytes, name: str) -> tuple[np.ndarray, grid_lib.Grid]:
    header = _raw_header(content)
    if header is None:
        raise ValueError(f"want a NIfTI file, got {len(content)} bytes that do not start as one.")
    stored_spacing = header["pixdim"][1:4].astype(np.float64)
    _fix(header)
    shape = _shape_3d(header)
    source = _source_of_space(header, name)
    if source != "sform" and not (np.isfinite(stored_spacing) & (stored_spacing > 0)).all():
        # Nibabel replaces 0 by 1 mm, and drops signs.
        raise ValueError(f"pixdim: want voxel sizes above 0, got {stored_spacing.tolist()}.")
    # Made before the voxels are read, so that a bad grid is reported at once.
    grid = grid_lib.Grid(shape, _affine(header, source))
    if source == "sform":
        _compare_spacing(grid, stored_spacing * _mm_per_unit(header), name)
    return _voxels(content, header, shape), grid


def _raw_header(content: bytes) -> nibabel.Nifti1Header | None:
    """Returns the header as stored; None if the bytes don't start like one."""
    kinds = {int.from_bytes(content[:4], order) for order in ("little", "big")} & set(_HEADERS)
    size = kinds.pop() if kinds else 0
    return _HEADERS[size](content[:size], check=False) if 0 < size <= len(content) else None


def _fix(header: nibabel.Nifti1Header) -> None:
    """Lets nibabel repair what is safe to repair."""
    if header["magic"].item()[:3] not in (b"n+1", b"n+2"):
        raise ValueError("want a single .nii, got an ANALYZE or .hdr header without its voxels.")
    try:
        header.check_fix(logger=_SILENT)
        header.get_data_offset()  # A float in the file, so it may be NaN.
    except (nibabel.spatialimages.HeaderDataError, ValueError, OverflowError) as error:
        raise ValueError(f"a NIfTI header that can't be used ({error}).") from error


def _declared_shape(header: nibabel.Nifti1Header) -> tuple[int, ...]:
    # Not get_data_shape(), which mistakes some shapes for FreeSurfer's surfaces.
    return tuple(header["dim"][1 : 1 + max(0, int(header["dim"][0]))].tolist())


def _shape_3d(header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    shape = _declared_shape(header)
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise ValueError(f"want a 3D volume, got {len(shape)}D of shape {shape}.")
    if min(shape) < 1:
        raise ValueError(f"want voxels along every axis, got shape {shape}.")
    return shape[0], shape[1], shape[2]


def _source_of_space(header: nibabel.Nifti1Header, name: str) -> str:
    """Returns the field to make the affine of: "sform", "qform" or, with neither, "pixdim"."""
    has_qform = bool(header["qform_code"])
    if header["sform_code"]:
        rows = np.stack([header[f"srow_{axis}"] for axis in "xyz"])
        if rows.any() or not has_qform:
            return "sform"
        logging.warning("%s: its sform is all 0; the qform is used", name)
    if has_qform:
        return "qform"
    logging.warning("%s: neither sform nor qform; left and right are a guess", name)
    return "pixdim"


def _affine(header: nibabel.Nifti1Header, source: str) -> np.ndarray:
    affines = dict(sform=header.get_sform, qform=header.get_qform, pixdim=header.get_base_affine)
    try:
        affine = affines[source]().astype(np.float64)
    except (nibabel.spatialimages.HeaderDataError, ValueError) as error:
        raise ValueError(f"its place in space can't be read ({error}).") from error
    affine[:3] *= _mm_per_unit(header)
    return affine


def _mm_per_unit(header: nibabel.Nifti1Header) -> float:
    try:
        return _MM_PER_UNIT[header.get_xyzt_units()[0]]
    except KeyError as error:
        code = header["xyzt_units"].item()
        raise ValueError(f"its place in space can't be read: xyzt_units is {code}.") from error


def _compare_spacing(grid: grid_lib.Grid, stored_mm: np.ndarray, name: str) -> None:
    """Logs a warning if pixdim, which other programs use, differs from the sform's voxel sizes."""
    used_mm = grid_lib.spacing_mm(grid)
    if not np.allclose(stored_mm, used_mm, rtol=_SPACING_TOLERANCE, atol=0):
        logging.warning(
            "%s: its pixdim has voxels of %s mm, its sform %s mm; the sform is used",
            *(name, resample.in_mm(stored_mm), resample.in_mm(used_mm)),
        )


def _voxels(
    content: bytes, header: nibabel.Nifti1Header, shape: tuple[int, int, int]
) -> np.ndarray:
    """Returns the voxels [I, J, K], a view of `content` if nothing has to be converted."""
    stored = header.get_data_dtype()
    if stored.kind not in "iuf":
        raise ValueError(f"want real numbers for voxels, got {stored}.")
    # A header has 348 or 540 bytes and 4 more for extensions, whatever offset it claims.
    offset = max(header.get_data_offset(), header.sizeof_hdr + 4)
    count = int(np.prod(shape, dtype=np.float64))
    if len(content) < offset + count * stored.itemsize:
        want = offset + count * stored.itemsize
        raise ValueError(f"truncated: want {want} bytes for shape {shape}, got {len(content)}.")
    array = np.frombuffer(content, stored, count, offset).reshape(shape, order="F")
    return _scaled(array, *_slope_inter(header))


def _slope_inter(header: nibabel.Nifti1Header) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except nibabel.spatialimages.HeaderDataError as error:
        raise ValueError(f"its scaling can't be used ({error}).") from error
    return (1.0, 0.0) if slope is None else (slope, inter)


def _scaled(array: np.ndarray, slope: float, inter: float) -> np.ndarray:
    is_scaled = (slope, inter) != (1.0, 0.0)
    if array.dtype.kind in "iu" and not is_scaled:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    # Values that overflow float32 become infinite and are refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = array.astype(np.float32, copy=is_scaled)
        if is_scaled:
            scaled *= np.float32(slope)
            scaled += np.float32(inter)
    num_bad = scaled.size - int(np.count_nonzero(np.isfinite(scaled)))
    if num_bad:
        raise ValueError(f"want finite voxels, got {num_bad} of {scaled.size} NaN or infinite.")
    return scaled
