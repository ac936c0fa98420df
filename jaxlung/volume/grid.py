"""Where a volume's voxels lie in the patient, and the way to the canonical order and back.

Canonical arrays are [D, H, W]: D grows to the patient's superior, H to posterior, W to left
(ITK's LPS, z y x). An axial slice [H, W] shows as radiologists see it.
"""

import dataclasses
import itertools
import os

import nibabel
import numpy as np

from jaxlung.volume import resample

_CANONICAL = nibabel.orientations.axcodes2ornt(("S", "P", "L"))
_TOLERANCE_MM = 1e-3
# The determinant of the axes' unit vectors: 1 when square, 0.87 for a gantry tilted by 30 degrees.
_LEAST_DETERMINANT = 1e-3
# Our choice for what is told: an infant's chest, and the longest table.
_LEAST_EXTENT_MM, _MOST_EXTENT_MM = 100.0, 2500.0


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a file in space.

    Compare grids by `require_same`; the shape and the affine are all there is to keep.

    Attributes:
        shape: of the file's array [I, J, K], each at least 1.
        affine: [4, 4] float64, from a voxel's index (i, j, k, 1) to the patient's right, anterior
            and superior in mm (RAS+, as NIfTI has it). Kept as a read-only copy.

    Raises:
        ValueError: a shape that is not three positive numbers; an affine that is not [4, 4], not
            finite, singular, or whose last row is not 0 0 0 1; voxels less than 0.01 mm or more
            than 50 mm apart.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape: want three axes of 1 or more voxels, got {self.shape}.")
        if affine.shape != (4, 4) or affine[3].tolist() != [0, 0, 0, 1]:
            raise ValueError(
                f"affine: want [4, 4] with the last row 0 0 0 1, got {affine.tolist()}."
            )
        if not _is_regular(affine):
            raise ValueError(
                f"affine: want finite numbers that can be inverted, got {affine[:3].tolist()}."
            )
        resample.require_spacing(spacing_mm(self))


def spacing_mm(grid: Grid) -> np.ndarray:
    """Returns the distances in mm between neighbouring voxels along the file's axes, [3]."""
    return np.linalg.norm(grid.affine[:3, :3], axis=0)


def doubt(grid: Grid) -> str | None:
    """Says what speaks against a grid being that of a person's chest in mm.

    Returns:
        A sentence with its measures, to go into a warning after the file's name; None if it looks
        right.
    """
    if np.array_equal(grid.affine, np.eye(4)):
        return (
            "its affine is the identity, as of files whose place in space was lost: voxels of "
            "1 mm and the order of axes are a guess."
        )
    extent_mm = spacing_mm(grid) * grid.shape
    if extent_mm.max() < _LEAST_EXTENT_MM or extent_mm.max() > _MOST_EXTENT_MM:
        return (
            f"it is {resample.in_mm(extent_mm)} mm large, with voxels of "
            f"{resample.in_mm(spacing_mm(grid))} mm: are they in mm?"
        )
    return None


def to_canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    """A file's array in canonical order, by permuting and flipping axes alone.

    Nothing is resampled: the axes of an oblique volume become the nearest canonical ones, and it
    stays as oblique as it was.

    Args:
        array: [I, J, K] of any dtype, of `grid`'s shape.
        grid: of the file.

    Returns:
        [D, H, W], contiguous; may share memory with `array`.

    Raises:
        ValueError: `array` and `grid` differ in shape.
    """
    if array.shape != grid.shape:
        raise ValueError(f"array {array.shape} and grid {grid.shape} must agree.")
    transform = nibabel.orientations.ornt_transform(_axes(grid), _CANONICAL)
    return np.ascontiguousarray(nibabel.orientations.apply_orientation(array, transform))


def from_canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    """The exact inverse of `to_canonical`, for an array on the same grid.

    Args:
        array: [D, H, W] of any dtype.
        grid: of the file that the volume came from.

    Returns:
        [I, J, K], contiguous; may share memory with `array`.

    Raises:
        ValueError: `array` does not have the shape that `grid` has in canonical order.
    """
    if array.shape != canonical_shape(grid):
        raise ValueError(
            f"array {array.shape} and grid {canonical_shape(grid)}, in canonical order, must agree."
        )
    transform = nibabel.orientations.ornt_transform(_CANONICAL, _axes(grid))
    return np.ascontiguousarray(nibabel.orientations.apply_orientation(array, transform))


def canonical_shape(grid: Grid) -> tuple[int, int, int]:
    """(D, H, W) of the grid's volume in canonical order."""
    return tuple(grid.shape[axis] for axis in _canonical_axes(grid))


def canonical_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """Distances in mm between neighbouring voxels along D, H and W: lengths, so never negative."""
    lengths_mm = spacing_mm(grid)
    return tuple(float(lengths_mm[axis]) for axis in _canonical_axes(grid))


def orientation(grid: Grid) -> str:
    """Where each of the file's axes grows to, nearest, such as "LPS" or "RAS"."""
    return "".join(nibabel.orientations.ornt2axcodes(_axes(grid)))


def require_same(
    path_a: os.PathLike[str] | str, grid_a: Grid, path_b: os.PathLike[str] | str, grid_b: Grid
) -> None:
    """Raises a ValueError naming both files unless their voxels are the same points in space.

    Points are the same within 0.001 mm at each corner of the volume, so that the rounding of
    float32 headers passes and half a voxel does not (our choice).
    """
    if grid_a.shape != grid_b.shape:
        raise ValueError(
            f"{path_b}: want the grid of {path_a}, {grid_a.shape} voxels, got {grid_b.shape}."
        )
    ends = [(0, length - 1) for length in grid_a.shape]
    corners = np.array(list(itertools.product(*ends, (1,))), np.float64)
    apart = corners @ (grid_a.affine - grid_b.affine).T
    apart_mm = np.linalg.norm(apart, axis=1).max()
    if apart_mm > _TOLERANCE_MM:
        raise ValueError(
            f"{path_b}: want the grid of {path_a}, got voxels up to {apart_mm:.3g} mm away from "
            f"its own, over the tolerance of {_TOLERANCE_MM} mm."
        )


def _axes(grid: Grid) -> np.ndarray:
    """For each of the file's axes, the patient's axis it is nearest to and its sign."""
    return nibabel.orientations.io_orientation(grid.affine)


def _canonical_axes(grid: Grid) -> tuple[int, int, int]:
    """The file's axes that become D, H and W."""
    nearest = _axes(grid)[:, 0].astype(int).tolist()
    return nearest.index(2), nearest.index(1), nearest.index(0)


def _is_regular(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all():
        return False
    with np.errstate(over="ignore"):  # of damaged headers: lengths become infinite, and fail
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > _LEAST_DETERMINANT
