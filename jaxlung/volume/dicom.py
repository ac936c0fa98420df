"""Reads a folder of DICOM files, as scanners and archives export it, as one CT on a grid."""

import dataclasses
import os
import warnings
from collections.abc import Sequence

import numpy as np
import pydicom
from etils import epath

from jaxlung.volume import dicom_file, dicom_folder
from jaxlung.volume import grid as grid_lib

_TO_RAS = (-1, -1, 1)  # DICOM's axes point to the patient's left, posterior and superior.
_PLACE = dict(
    ImagePositionPatient="(0020,0032)",
    ImageOrientationPatient="(0020,0037)",
    PixelSpacing="(0028,0030)",
)
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_TAGS = (
    *(*dicom_file.ROLE_TAGS, *_PLACE, *_RESCALE),
    *("Rows", "Columns", "SamplesPerPixel", "SharedFunctionalGroupsSequence"),
)
# Our choices: headers hold decimal text of up to 16 characters, which scanners round.
_ORIENTATION_TOLERANCE = 1e-3  # of unit vectors: half a millimetre over a whole slice
_SPACING_TOLERANCE = 1e-3  # of the spacing in the plane, mm
# A slice may be off its place in an evenly spaced stack by 2 % of the step, or by the error of
# positions rounded to 0.1 mm; but never by a quarter of a step. A missing slice puts others off by
# at least half a step.
_STEP_TOLERANCE = 0.02
_ROUNDING_MM = 0.101
_MOST_STEP_TOLERANCE = 0.25
_SAME_PLACE_MM = 1e-3


@dataclasses.dataclass(frozen=True)
class _Slice:
    """The place of one file's pixels in space.

    Attributes:
        path: the file.
        shape: number of rows and of columns.
        spacing_mm: [2], distance between rows and between columns.
        along_row: [3], unit vector from a column to the next, LPS.
        along_column: [3], unit vector from a row to the next, LPS.
        position: [3], centre of the first pixel, LPS mm.
        has_rescale: True if the header has a rescale to HU.
    """

    path: epath.Path
    shape: tuple[int, int]
    spacing_mm: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    position: np.ndarray
    has_rescale: bool

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.along_row, self.along_column)


def read_series(
    folder: os.PathLike[str] | str, max_voxels: int | None = None
) -> tuple[np.ndarray, grid_lib.Grid]:
    """Reads the CT series in a folder and sorts its slices by their positions.

    DICOM files are recognised by their content, whatever their names, with or without a preamble.
    Other files, a DICOMDIR, hidden files and folders are ignored. Scouts, captured screens and
    files of another modality and series, such as an RTSTRUCT, are left out with a warning.

    Slices are sorted along the normal of their plane, never by name or number. They may be stacked
    obliquely (a tilted gantry), which gives a sheared affine. The distance between slices comes
    from their positions, not from SliceThickness.

    Args:
        folder: holds the slices of one CT series, and of no other CT.
        max_voxels: largest volume to read, checked against the headers; None for any.

    Returns:
        The array [I, J, K] int16 (along a row, down a column, from slice to slice) and its grid, in
        RAS+ as in NIfTI. Each slice is in HU: its own RescaleSlope and RescaleIntercept are
        applied, then it is rounded and clipped to int16. If no file has a rescale, values are as
        stored. Padding below -1024 is left to `hounsfield.to_hu`.

    Raises:
        ValueError: the folder has no DICOM file, several series, a single slice or too many
            voxels. A file is named like the slices but isn't DICOM. A file is no CT, damaged or
            truncated, has several frames or colours, doesn't give its place in space, or uses a
            compression that can't be decoded. Slices differ in shape, spacing, orientation or in
            having a rescale, have the same position or are not evenly spaced. The message names
            the folder or the file.
    """
    # Pydicom warns of every odd value in a header; the values used here are checked.
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        return _read_series(epath.Path(folder), max_voxels)


def slice_paths(folder: os.PathLike[str] | str) -> list[epath.Path]:
    """Returns the files of the series in the order of `read_series`.

    Raises:
        ValueError: as `read_series`.
    """
    return [one.path for one in _sorted_slices(epath.Path(folder))]


def _read_series(folder: epath.Path, max_voxels: int | None) -> tuple[np.ndarray, grid_lib.Grid]:
    slices = _sorted_slices(folder)
    step_mm = _step(folder, slices)
    rows, columns = slices[0].shape
    num_voxels = len(slices) * rows * columns
    if max_voxels is not None and num_voxels > max_voxels:
        raise ValueError(
            f"{folder}: want at most {max_voxels:,} voxels (max_voxels), got {len(slices)} slices "
            f"with {num_voxels:,}."
        )
    grid = _grid(folder, slices, step_mm)
    array = np.empty((len(slices), rows, columns), np.int16)
    for i, one in enumerate(slices):
        array[i] = _hu(one)
    return array.T, grid


def _sorted_slices(folder: epath.Path) -> list[_Slice]:
    headers = dicom_folder.slice_headers(folder, _TAGS)
    slices = [_parse_slice(path, header) for path, header in headers.items()]
    for other in slices[1:]:
        _require_alike(slices[0], other)
    normal = slices[0].normal
    return sorted(slices, key=lambda one: float(one.position @ normal))


def _parse_slice(path: epath.Path, header: pydicom.Dataset) -> _Slice:
    frames = _numbers(path, header, "NumberOfFrames", (1,), default=1)[0]
    if frames != 1 or "SharedFunctionalGroupsSequence" in header:
        raise dicom_file.multi_frame(path, frames)
    samples = _numbers(path, header, "SamplesPerPixel", (1,), default=1)[0]
    if samples != 1:
        raise ValueError(f"{path}: want one value a pixel, got a colour image of {samples:g}.")
    rows, columns = (int(_numbers(path, header, name, (1,))[0]) for name in ("Rows", "Columns"))
    shape = rows, columns
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
    has_rescale = any(name in header for name in _RESCALE)
    return _Slice(path, shape, spacing_mm, orientation[0], orientation[1], position, has_rescale)


def _numbers(
    path: epath.Path,
    header: pydicom.Dataset,
    name: str,
    shape: tuple[int, ...],
    default: float | None = None,
) -> np.ndarray:
    """Returns the finite float64 numbers of a tag in this shape; `default` if it is missing."""
    value = dicom_file.value(path, header, name)
    if value is None or value == "":
        value = default
    if value is None:
        tag = f" {_PLACE[name]}" if name in _PLACE else ""
        raise ValueError(
            f"{path}: want the tag {name}{tag}, got none: the header is incomplete or truncated."
        )
    try:
        numbers = np.array(value, np.float64).reshape(shape)
    except dicom_file.DAMAGE as error:
        raise ValueError(f"{path}: {name} can't be read ({dicom_file.reason(error)}).") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: {name}: want finite numbers, got {numbers.tolist()}.")
    return numbers


def _require_alike(first: _Slice, other: _Slice) -> None:
    pairs = (
        ("rows and columns", first.shape, other.shape, 0.0),
        ("PixelSpacing", first.spacing_mm, other.spacing_mm, _SPACING_TOLERANCE),
        ("direction of rows", first.along_row, other.along_row, _ORIENTATION_TOLERANCE),
        ("direction of columns", first.along_column, other.along_column, _ORIENTATION_TOLERANCE),
        ("has a rescale to HU", first.has_rescale, other.has_rescale, 0.0),
    )
    for name, want, got, tolerance in pairs:
        want, got = np.asarray(want), np.asarray(got)
        if np.abs(np.subtract(want, got, dtype=float)).max() > tolerance:
            raise ValueError(
                f"{other.path}: {name}: want {want.tolist()} as in {first.path.name}, got "
                f"{got.tolist()}."
            )


def _step(folder: epath.Path, slices: Sequence[_Slice]) -> np.ndarray:
    """Returns the step from a slice to the next, [3] LPS mm, for sorted slices."""
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
            f"{folder}: want one slice at each position, got {_names(slices, nearest)} both at "
            f"{positions[nearest].tolist()} mm."
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    usual = np.median(steps, axis=0)
    usual_mm = np.linalg.norm(usual)
    # Positions are compared, not steps, as steps alone don't show a slow drift.
    off_mm = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * step).max()
    allowed = max(_STEP_TOLERANCE * usual_mm, _ROUNDING_MM)
    if off_mm > min(allowed, _MOST_STEP_TOLERANCE * usual_mm):
        worst = int(np.argmax(np.linalg.norm(steps - usual, axis=1)))
        raise ValueError(
            f"{folder}: want slices {usual_mm:.4g} mm apart along one line, as most are, got "
            f"{np.linalg.norm(steps[worst]):.4g} mm from {positions[worst].tolist()} to "
            f"{positions[worst + 1].tolist()}, {_names(slices, worst)}; is a slice missing?"
        )
    return step


def _names(slices: Sequence[_Slice], index: int) -> str:
    """Returns the file names of a slice and the next one."""
    return f"{slices[index].path.name} and {slices[index + 1].path.name}"


def _hu(one: _Slice) -> np.ndarray:
    """Returns the HU of a slice, [rows, columns] int16."""
    dataset = dicom_file.read(one.path)
    slope = _numbers(one.path, dataset, "RescaleSlope", (1,), default=1)[0]
    intercept = _numbers(one.path, dataset, "RescaleIntercept", (1,), default=0)[0]
    if "PixelData" not in dataset:
        raise ValueError(f"{one.path}: truncated: it ends before its pixels.")
    syntax = dataset.file_meta.TransferSyntaxUID
    dicom_file.require_decoder(one.path, syntax)
    try:
        stored = dataset.pixel_array
    except dicom_file.DAMAGE as error:
        raise ValueError(
            f"{one.path}: its pixels ({syntax.name}) can't be decoded: truncated, damaged, or in "
            f"an unknown compression ({dicom_file.reason(error)})."
        ) from error
    if stored.shape != one.shape:
        raise ValueError(f"{one.path}: want pixels of {one.shape}, got {stored.shape}.")
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(stored * slope + intercept), limits.min, limits.max).astype(np.int16)


def _grid(folder: epath.Path, slices: Sequence[_Slice], step_mm: np.ndarray) -> grid_lib.Grid:
    first = slices[0]
    rows, columns = first.shape
    between_rows_mm, between_columns_mm = first.spacing_mm
    affine = np.eye(4)
    # A step along a row leads to the next column, so its length is the columns' distance.
    affine[:3, 0] = first.along_row * between_columns_mm
    affine[:3, 1] = first.along_column * between_rows_mm
    affine[:3, 2] = step_mm
    affine[:3, 3] = first.position
    affine[:3] *= np.array(_TO_RAS)[:, None]
    try:
        return grid_lib.Grid((columns, rows, len(slices)), affine)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
