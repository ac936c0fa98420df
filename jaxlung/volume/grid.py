"""The place of a volume's voxels in the patient, and the way to canonical order and back.

Canonical arrays are [D, H, W]: D points to the patient's superior, H to posterior, W to left
(ITK's LPS, z y x). An axial slice [H, W] looks as radiologists view it.
"""

import dataclasses
import itertools
import os

import nibabel
import numpy as np

from jaxlung.volume import resample

_CANONICAL = nibabel.orientations.axcodes2ornt(("S", "P", "L"))
_TOLERANCE_MM = 1e-3
# The determinant of the axes' unit vectors: 1 for right angles, 0.87 for a gantry tilted by 30
# degrees.
_LEAST_DETERMINANT = 1e-3
# Our choice of the extents that give no warning: an infant's chest to the longest table.
_LEAST_EXTENT_MM, _MOST_EXTENT_MM = 100.0, 2500.0


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a file in space. Compare two grids by `require_same`.

    Attributes:
        shape: shape of the file's array [I, J, K], each at least 1.
        affine: [4, 4] float64, maps a voxel's index (i, j, k, 1) to the patient's right, anterior
            and superior in mm (RAS+, as in NIfTI). Stored as a read-only copy.

    Raises:
        ValueError: the shape is not three positive numbers. The affine is not [4, 4], not finite
            or singular, or its last row is not 0 0 0 1. Voxels are less than 0.01 mm or more than
            50 mm apart.
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
    """Returns a reason to doubt that a grid is that of a chest in mm, or None.

    Returns:
        A sentence with measures, for a warning that begins with the file's name; None if the grid
        looks right.
    """
    if np.array_equal(grid.affine, np.eye(4)):
        return (
            "its affine is the identity, as in files that lost their place in space: the spacing "
            "of 1 mm and the order of axes are a guess."
        )
    extent_mm = spacing_mm(grid) * grid.shape
    if extent_mm.max() < _LEAST_EXTENT_MM or extent_mm.max() > _MOST_EXTENT_MM:
        return (
            f"it measures {resample.in_mm(extent_mm)} mm, with voxels of "
            f"{resample.in_mm(spacing_mm(grid))} mm: is its unit mm?"
        )
    return None


def to_canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns a file's array in canonical order, by permuting and flipping axes.

    Nothing is resampled: the axes of an oblique volume become the nearest canonical ones, and the
    volume stays oblique.

    Args:
        array: [I, J, K] of any dtype, of the grid's shape.
        grid: the file's grid.

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
    """Returns an array in canonical order in the file's own order: inverts `to_canonical`.

    Args:
        array: [D, H, W] of any dtype.
        grid: grid of the file that the volume came from.

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
    """Returns (D, H, W), the shape of the grid's volume in canonical order."""
    depth, height, width = (grid.shape[axis] for axis in _canonical_axes(grid))
    return depth, height, width


def canonical_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """Returns the distances in mm, above 0, between neighbouring voxels along D, H and W."""
    lengths_mm = spacing_mm(grid)
    depth, height, width = (float(lengths_mm[axis]) for axis in _canonical_axes(grid))
    return depth, height, width


def orientation(grid: Grid) -> str:
    """Returns the nearest directions of the file's axes, such as "LPS" or "RAS"."""
    return "".join(nibabel.orientations.ornt2axcodes(_axes(grid)))


def require_same(
    path_a: os.PathLike[str] | str, grid_a: Grid, path_b: os.PathLike[str] | str, grid_b: Grid
) -> None:
    """Raises ValueError, naming both files, unless their voxels are the same points in space.

    The corners of the volumes may differ by 0.001 mm (our choice): more than the rounding of
    float32 headers, far less than half a voxel.
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
            f"its voxels, more than the tolerance of {_TOLERANCE_MM} mm."
        )


def _axes(grid: Grid) -> np.ndarray:
    """Returns the patient's nearest axis, and its sign, for each of the file's axes, [3, 2]."""
    return nibabel.orientations.io_orientation(grid.affine)


def _canonical_axes(grid: Grid) -> tuple[int, int, int]:
    """Returns the indices of the file's axes that become D, H and W."""
    nearest = _axes(grid)[:, 0].astype(int).tolist()
    return nearest.index(2), nearest.index(1), nearest.index(0)


def _is_regular(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all():
        return False
    with np.errstate(over="ignore"):  # In damaged headers lengths may overflow; they fail below.
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > _LEAST_DETERMINANT
