"""A folder of DICOM files as one CT on a grid: what a scanner or an archive exports."""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from etils import epath

from jaxlung import damage
from jaxlung.volume import grid as grid_lib

_PREAMBLE = 128  # bytes before the four that say what the file is
_MAGIC = b"DICM"
_CT = "CT"
_TO_RAS = (-1, -1, 1)  # DICOM's axes grow to the patient's left, posterior and superior.
_TAGS = dict(
    ImagePositionPatient="(0020,0032)",
    ImageOrientationPatient="(0020,0037)",
    PixelSpacing="(0028,0030)",
)
# Our choices: headers are decimal text of up to 16 characters, and scanners round in them.
_ORIENTATION_TOLERANCE = 1e-3  # of unit vectors: half a millimetre over a whole slice
_SPACING_TOLERANCE = 1e-3  # of the spacing in the plane
_STEP_TOLERANCE = 0.02  # of the distance between slices
_SAME_PLACE_MM = 1e-3
# What pydicom raises on damaged files.
DAMAGE = (
    *damage.ERRORS,
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
)


@dataclasses.dataclass(frozen=True)
class _Slice:
    """Where one file's pixels are: LPS mm, shape as rows and columns, spacing between them."""

    path: epath.Path
    shape: tuple[int, int]
    spacing_mm: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    position: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.along_row, self.along_column)


def read_series(folder: os.PathLike[str] | str) -> tuple[np.ndarray, grid_lib.Grid]:
    """The CT series in a folder, its slices in the order of their positions.

    Files are told by their content, whatever they are called; those that are not DICOM, a
    DICOMDIR, hidden files and folders are passed over. Slices are sorted along the normal of
    their plane, never by name or number, and may be stacked aslant (a tilted gantry), which makes
    the affine sheared. The distance between slices is that of their positions, not SliceThickness.

    Args:
        folder: with the slices of one series, and no other's.

    Returns:
        The array [I, J, K] int16: along a row, down a column, from slice to slice. Each slice has
        its own RescaleSlope and RescaleIntercept applied, which makes it HU, and is rounded and
        clipped to int16; where a file has neither, values are as stored. Padding below -1024 is
        left for `hounsfield.to_hu`. And its grid, in RAS+ as NIfTI has it.

    Raises:
        ValueError: naming the folder or the file: no DICOM file, several series, one slice; a
            file that is no CT, damaged, cut short, of several frames or in colour, without its
            place in space or compressed in a way that can't be decoded; slices that differ in
            shape, spacing or orientation, share a place or are not evenly spaced.
    """
    # Pydicom warns of each odd value in a header; those that we use are checked.
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        return _read_series(epath.Path(folder))


def _read_series(folder: epath.Path) -> tuple[np.ndarray, grid_lib.Grid]:
    headers = _series(folder)
    slices = [_parse_slice(path, header) for path, header in headers.items()]
    for other in slices[1:]:
        _require_alike(slices[0], other)
    normal = slices[0].normal
    slices.sort(key=lambda one: float(one.position @ normal))
    step_mm = _step(folder, slices)
    rows, columns = slices[0].shape
    array = np.empty((len(slices), rows, columns), np.int16)
    for i, one in enumerate(slices):
        array[i] = _hu(one)
    return array.T, _grid(folder, slices, step_mm)


def _series(folder: epath.Path) -> dict[epath.Path, pydicom.Dataset]:
    """Headers of the one series in a folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: want a folder of DICOM files, got none there.")
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    files = [path for path in entries if not path.is_dir()]
    headers = {path: _read(path, stop_before_pixels=True) for path in files if _is_dicom(path)}
    directory = pydicom.uid.MediaStorageDirectoryStorage
    headers = {
        path: header
        for path, header in headers.items()
        if _value(path, header.file_meta, "MediaStorageSOPClassUID") != directory
    }
    if not headers:
        inner = ", ".join(path.name for path in entries if path.is_dir())
        hint = f"; look in its folders {inner}" if inner else ""
        raise ValueError(f"{folder}: no DICOM file among its {len(files)} files{hint}.")
    _require_one_series(folder, headers)
    return headers


def _is_dicom(path: epath.Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_PREAMBLE + len(_MAGIC))
    if start[_PREAMBLE:] == _MAGIC:
        return True
    if path.name.lower().endswith(".dcm"):  # Passing over it would leave out a slice.
        raise ValueError(f"{path}: want a DICOM file, got one that does not start as such.")
    return False


def _read(path: epath.Path, stop_before_pixels: bool) -> pydicom.Dataset:
    try:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
    except DAMAGE as error:
        raise ValueError(f"{path}: truncated or damaged ({_reason(error)}).") from error
    syntax = _value(path, dataset.file_meta, "TransferSyntaxUID")
    if not isinstance(syntax, pydicom.uid.UID):
        raise ValueError(f"{path}: truncated or damaged (got {syntax} for its transfer syntax).")
    return dataset


def _require_one_series(folder: epath.Path, headers: dict[epath.Path, pydicom.Dataset]) -> None:
    counts = {}
    for path, header in headers.items():
        uid = str(_value(path, header, "SeriesInstanceUID") or "without a SeriesInstanceUID")
        modality = str(_value(path, header, "Modality") or _CT)  # Anonymisers may take it out.
        counts[modality, uid] = counts.get((modality, uid), 0) + 1
    found = ", ".join(
        f"{modality} {uid} ({count} {'file' if count == 1 else 'files'})"
        for (modality, uid), count in counts.items()
    )
    if len(counts) > 1:
        raise ValueError(
            f"{folder}: want one series, got {len(counts)}: {found}; put the files of each into a "
            "folder of its own and give the one you want."
        )
    if next(iter(counts))[0] != _CT:
        raise ValueError(f"{folder}: want a series of modality {_CT}, got {found}.")


def _parse_slice(path: epath.Path, header: pydicom.Dataset) -> _Slice:
    frames = _numbers(path, header, "NumberOfFrames", (1,), default=1)[0]
    if frames != 1 or "SharedFunctionalGroupsSequence" in header:
        raise ValueError(f"{path}: want one slice a file, got a multi-frame file of {frames:g}.")
    samples = _numbers(path, header, "SamplesPerPixel", (1,), default=1)[0]
    if samples != 1:
        raise ValueError(f"{path}: want one value a pixel, got a colour image of {samples:g}.")
    shape = tuple(int(_numbers(path, header, name, (1,))[0]) for name in ("Rows", "Columns"))
    orientation = _numbers(path, header, "ImageOrientationPatient", (2, 3))
    if np.abs(orientation @ orientation.T - np.eye(2)).max() > _ORIENTATION_TOLERANCE:
        raise ValueError(
            f"{path}: ImageOrientationPatient: want two unit vectors at right angles, got "
            f"{orientation.tolist()}."
        )
    spacing_mm = _numbers(path, header, "PixelSpacing", (2,))
    if min(spacing_mm) <= 0 or min(shape) < 1:
        raise ValueError(
            f"{path}: want rows, columns and PixelSpacing above 0, got {shape} and "
            f"{spacing_mm.tolist()} mm."
        )
    position = _numbers(path, header, "ImagePositionPatient", (3,))
    return _Slice(path, shape, spacing_mm, *orientation, position)


def _numbers(
    path: epath.Path,
    header: pydicom.Dataset,
    name: str,
    shape: tuple[int, ...],
    default: float | None = None,
) -> np.ndarray:
    """Finite float64 numbers of a header, of this shape; `default` where there are none."""
    value = _value(path, header, name)
    if value is None or value == "":
        value = default
    if value is None:
        tag = f" {_TAGS[name]}" if name in _TAGS else ""
        raise ValueError(
            f"{path}: want the tag {name}{tag}, got none: the slice is bare or cut short."
        )
    try:
        numbers = np.array(value, np.float64).reshape(shape)
    except DAMAGE as error:
        raise ValueError(f"{path}: {name} can't be read ({_reason(error)}).") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: {name}: want finite numbers, got {numbers.tolist()}.")
    return numbers


def _value(path: epath.Path, header: pydicom.Dataset, name: str) -> Any:
    """A tag's value, parsed only here; None where there is none."""
    try:
        return header.get(name)
    except DAMAGE as error:
        raise ValueError(f"{path}: {name} can't be read ({_reason(error)}).") from error


def _require_alike(first: _Slice, other: _Slice) -> None:
    pairs = (
        ("rows and columns", first.shape, other.shape, 0.0),
        ("PixelSpacing", first.spacing_mm, other.spacing_mm, _SPACING_TOLERANCE),
        ("direction of rows", first.along_row, other.along_row, _ORIENTATION_TOLERANCE),
        ("direction of columns", first.along_column, other.along_column, _ORIENTATION_TOLERANCE),
    )
    for name, want, got, tolerance in pairs:
        want, got = np.asarray(want), np.asarray(got)
        if np.abs(want - got).max() > tolerance:
            raise ValueError(
                f"{other.path}: {name}: want {want.tolist()} as in {first.path.name}, got "
                f"{got.tolist()}."
            )


def _step(folder: epath.Path, slices: Sequence[_Slice]) -> np.ndarray:
    """[3] LPS mm from a slice to the next, of slices in order."""
    if len(slices) < 2:
        raise ValueError(
            f"{folder}: want two slices or more, got only {slices[0].path.name}: the distance "
            "between slices can't be told from SliceThickness, as they may overlap."
        )
    positions = np.stack([one.position for one in slices])
    steps = np.diff(positions, axis=0)
    along_normal = steps @ slices[0].normal
    nearest = int(np.argmin(along_normal))
    if along_normal[nearest] < _SAME_PLACE_MM:
        raise ValueError(
            f"{folder}: want one slice at a place, got {_names(slices, nearest)} both at "
            f"{positions[nearest].tolist()} mm."
        )
    usual = np.median(steps, axis=0)
    usual_mm = np.linalg.norm(usual)
    off_mm = np.linalg.norm(steps - usual, axis=1)
    worst = int(np.argmax(off_mm))
    if off_mm[worst] > _STEP_TOLERANCE * usual_mm:
        raise ValueError(
            f"{folder}: want slices {usual_mm:.4g} mm apart along one line, as most are, got "
            f"{np.linalg.norm(steps[worst]):.4g} mm from {positions[worst].tolist()} to "
            f"{positions[worst + 1].tolist()}, {_names(slices, worst)}; is a slice missing?"
        )
    return (positions[-1] - positions[0]) / (len(slices) - 1)


def _names(slices: Sequence[_Slice], index: int) -> str:
    """The files of a slice and the next."""
    return f"{slices[index].path.name} and {slices[index + 1].path.name}"


def _hu(one: _Slice) -> np.ndarray:
    """[rows, columns] int16."""
    dataset = _read(one.path, stop_before_pixels=False)
    slope = _numbers(one.path, dataset, "RescaleSlope", (1,), default=1)[0]
    intercept = _numbers(one.path, dataset, "RescaleIntercept", (1,), default=0)[0]
    if "PixelData" not in dataset:
        raise ValueError(f"{one.path}: truncated: it ends before its pixels.")
    try:
        stored = dataset.pixel_array
    except DAMAGE as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise ValueError(
            f"{one.path}: its pixels ({syntax}) can't be decoded: truncated, damaged, or "
            f"compressed in a way unknown here ({_reason(error)})."
        ) from error
    if stored.shape != one.shape:
        raise ValueError(f"{one.path}: want pixels of {one.shape}, got {stored.shape}.")
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(stored * slope + intercept), limits.min, limits.max).astype(np.int16)


def _reason(error: Exception) -> str:
    """What pydicom says, its first line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _grid(folder: epath.Path, slices: Sequence[_Slice], step_mm: np.ndarray) -> grid_lib.Grid:
    first = slices[0]
    rows, columns = first.shape
    between_rows_mm, between_columns_mm = first.spacing_mm
    affine = np.eye(4)
    # Along a row one goes from column to column, and the other way about.
    affine[:3, 0] = first.along_row * between_columns_mm
    affine[:3, 1] = first.along_column * between_rows_mm
    affine[:3, 2] = step_mm
    affine[:3, 3] = first.position
    affine[:3] *= np.array(_TO_RAS)[:, None]
    try:
        return grid_lib.Grid((columns, rows, len(slices)), affine)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
