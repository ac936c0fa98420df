"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz) as arrays on a grid, in and out."""

import gzip
import logging as std_logging
import os
import re
import zlib

import nibabel
import numpy as np
from absl import logging
from etils import epath

from jaxlung import files
from jaxlung.volume import grid as grid_lib

_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}  # by their own size
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_WRITABLE = ("uint8", "int16", "float32")
# Nibabel prints what it makes of a header; we say it once, as an error, or not at all.
_SILENT = std_logging.Logger("nifti", level=std_logging.CRITICAL)
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT: the affine leads to the scanner's own coordinates


def read(
    path_or_bytes: os.PathLike[str] | str | bytes, name: str
) -> tuple[np.ndarray, grid_lib.Grid]:
    """A 3D volume as stored: in the file's own axis order, its scaling applied.

    Space is the header's sform, else its qform. With neither, space is made of the voxel sizes
    with i growing to the left and the volume's centre at 0 (nibabel's reading of ANALYZE), and a
    warning says so. A header in metres or microns is brought to mm.

    Args:
        path_or_bytes: a .nii or .nii.gz, or its content; gzip is told by its first bytes.
        name: what errors call the file.

    Returns:
        The array [I, J, K], perhaps read-only, in the stored dtype where that is integer and
        unscaled, else float32; and its grid.

    Raises:
        ValueError: naming the file: it is damaged, cut short or no NIfTI; not 3D (one time
            point counts as 3D); an axis is empty; voxels are NaN, infinite, complex or colours;
            the affine is singular.
    """
    is_content = isinstance(path_or_bytes, bytes)
    content = path_or_bytes if is_content else epath.Path(path_or_bytes).read_bytes()
    try:
        return _parse(_unzipped(content), name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def write(path: os.PathLike[str] | str, array: np.ndarray, grid: grid_lib.Grid) -> None:
    """Writes a .nii.gz whole or not at all; the same input gives the same bytes.

    The affine becomes the sform, and the qform too unless it is sheared, which a qform can't
    say; both in the scanner's coordinates (code 1), in mm.

    Args:
        path: ends in .nii.gz.
        array: [I, J, K] uint8, int16 or float32, in the file's axis order (`from_canonical`).
        grid: of `array`.

    Raises:
        ValueError: naming the file: another ending, dtype or shape.
    """
    path = epath.Path(path)
    if not path.name.endswith(".nii.gz"):
        raise ValueError(f"{path}: want a name that ends in .nii.gz.")
    if array.dtype.name not in _WRITABLE:
        raise ValueError(f"{path}: want one of {', '.join(_WRITABLE)}, got {array.dtype}.")
    if array.shape != grid.shape:
        raise ValueError(f"{path}: want the grid's shape {grid.shape}, got {array.shape}.")
    image = nibabel.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code=_SCANNER)
    image.set_qform(grid.affine, code=_SCANNER, strip_shears=True)
    if not np.allclose(image.get_qform(), grid.affine, atol=1e-3):
        image.set_qform(None, code=0)
    # Level 6 takes a CT three times as long, for 2 % less.
    files.write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def case_name(path: os.PathLike[str] | str) -> str:
    """The file's name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", epath.Path(path).name, flags=re.IGNORECASE)


def _unzipped(content: bytes) -> bytes:
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"truncated or damaged gzip ({error}).") from error


def _parse(content: bytes, name: str) -> tuple[np.ndarray, grid_lib.Grid]:
    header = _header(content)
    shape = _shape_3d(header)
    if not header["sform_code"] and not header["qform_code"]:
        logging.warning("%s: neither sform nor qform; left and right are a guess", name)
    # A grid that can't be is said before the voxels are touched.
    grid = grid_lib.Grid(shape, _affine(header))
    return _voxels(content, header, shape), grid


def _header(content: bytes) -> nibabel.Nifti1Header:
    kinds = {int.from_bytes(content[:4], order) for order in ("little", "big")} & set(_HEADERS)
    size = kinds.pop() if kinds else 0
    if not 0 < size <= len(content):
        raise ValueError(f"want a NIfTI file, got {len(content)} bytes that do not start as one.")
    header = _HEADERS[size](content[:size], check=False)
    if header["magic"].item()[:3] not in (b"n+1", b"n+2"):
        raise ValueError("want a single .nii, got an ANALYZE or .hdr header without its voxels.")
    try:
        header.check_fix(logger=_SILENT)
        header.get_data_offset()  # a float in the file, so it may be no number
    except (nibabel.spatialimages.HeaderDataError, ValueError, OverflowError) as error:
        raise ValueError(f"a NIfTI header that can't be used ({error}).") from error
    return header


def _shape_3d(header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    # Not get_data_shape(), which takes some shapes for FreeSurfer's surfaces.
    shape = tuple(header["dim"][1 : 1 + max(0, int(header["dim"][0]))].tolist())
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise ValueError(f"want a 3D volume, got {len(shape)}D of shape {shape}.")
    if min(shape) < 1:
        raise ValueError(f"want voxels along every axis, got shape {shape}.")
    return shape[:3]


def _affine(header: nibabel.Nifti1Header) -> np.ndarray:
    try:
        affine = header.get_best_affine().astype(np.float64)
        unit = header.get_xyzt_units()[0]
    except (nibabel.spatialimages.HeaderDataError, ValueError, KeyError) as error:
        raise ValueError(f"its place in space can't be read ({error}).") from error
    affine[:3] *= _MM_PER_UNIT[unit]
    return affine


def _voxels(
    content: bytes, header: nibabel.Nifti1Header, shape: tuple[int, int, int]
) -> np.ndarray:
    """[I, J, K], a view of `content` where nothing has to be converted."""
    stored = header.get_data_dtype()
    if stored.kind not in "iuf":
        raise ValueError(f"want real numbers for voxels, got {stored}.")
    # Headers start with 348 or 540 bytes and 4 more of extensions, whatever they claim.
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
    # What overflows float32 is infinite, and refused as such below.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = array.astype(np.float32, copy=is_scaled)
        if is_scaled:
            scaled *= np.float32(slope)
            scaled += np.float32(inter)
    num_bad = scaled.size - int(np.count_nonzero(np.isfinite(scaled)))
    if num_bad:
        raise ValueError(f"want finite voxels, got {num_bad} of {scaled.size} NaN or infinite.")
    return scaled
