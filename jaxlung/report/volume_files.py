"""Reads and checks the files of a run about single CT volumes."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath

from jaxlung.config import run_files

PLANES = ("axial", "coronal", "sagittal")
_PARTS = ("image", "pred", "target", "index", "aspect")


@dataclasses.dataclass(frozen=True)
class Plane:
    """One slice of a volume.

    Attributes:
        image: [H, W] uint8.
        pred: [H, W] bool, the prediction.
        target: [H, W] bool, the annotation.
        index: Number of the slice, from 0.
        aspect: Height of a pixel divided by its width.
    """

    image: np.ndarray
    pred: np.ndarray
    target: np.ndarray
    index: int
    aspect: float


@dataclasses.dataclass(frozen=True)
class Subject:
    """A volume in `planes_test.npz`, with its slices by the names of `PLANES`."""

    image_id: str
    dice: float
    planes: dict[str, Plane]


@dataclasses.dataclass(frozen=True)
class Amounts:
    """Predicted and annotated mL in the volumes of a split, [N] float64 each."""

    predicted: np.ndarray
    annotated: np.ndarray


def load_subjects(workdir: epath.Path) -> list[Subject]:
    """Reads `planes_test.npz` by volume; returns [] without the file.

    Raises:
        ValueError: it can't be read, lacks an array, or its arrays don't fit.
    """
    path = workdir / "planes_test.npz"
    if not path.exists():
        return []
    try:
        arrays = run_files.load_arrays(path)
        numbers = sorted({int(name.partition("_")[0]) for name in arrays})
        return [_make_subject(arrays, number) for number in numbers]
    except KeyError as error:
        raise ValueError(f"{path}: want the planes of volumes; lacks {error}.") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: want the planes of volumes, got others ({error}).") from error


def _make_subject(arrays: Mapping[str, np.ndarray], number: int) -> Subject:
    return Subject(
        image_id=str(arrays[f"{number}_image_id"]),
        dice=float(arrays[f"{number}_dice"]),
        planes={plane: _make_plane(arrays, f"{number}_{plane}") for plane in PLANES},
    )


def _make_plane(arrays: Mapping[str, np.ndarray], name: str) -> Plane:
    image, pred, target, index, aspect = (arrays[f"{name}_{part}"] for part in _PARTS)
    if image.ndim != 2 or not image.shape == pred.shape == target.shape or not image.size:
        raise ValueError(
            f"{name}: image {image.shape}, pred {pred.shape} and target {target.shape}"
        )
    if not 0 < aspect < np.inf:
        raise ValueError(f"{name}_aspect: {aspect}")
    return Plane(image, pred > 0, target > 0, int(index), float(aspect))


def load_amounts(workdir: epath.Path) -> dict[str, Amounts]:
    """Reads the mL of each volume by split, in the order of `run_files.SPLITS`."""
    amounts = {}
    for split in run_files.SPLITS:
        rows = run_files.load_rows(workdir / f"scores_{split}.csv")
        if rows and {"volume_ml", "true_volume_ml"} <= rows[0].keys():
            pairs = np.array(
                [
                    [run_files.to_number(row[k]) for k in ("volume_ml", "true_volume_ml")]
                    for row in rows
                ]
            )
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            if len(pairs):
                amounts[split] = Amounts(*pairs.T)
    return amounts
