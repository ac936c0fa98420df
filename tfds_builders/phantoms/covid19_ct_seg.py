"""Writes phantom chest CTs in the layouts of COVID-19-CT-Seg: Zenodo's and Kaggle's."""

import csv
import gzip
import itertools
import pathlib
from typing import Literal

import nibabel
import numpy as np

from tfds_builders.phantoms import chest_ct, whole_tree

VERSION = 1  # Increase it whenever the generator draws other volumes.
THINGS = "CTs"  # Their name in logs.
RADIOPAEDIA = (
    "4_85506_1",
    "7_85703_0",
    "10_85902_1",
    "10_85902_3",
    "14_85914_0",
    "27_86410_0",
    "29_86490_1",
    "29_86491_1",
    "36_86526_0",
    "40_86625_0",
)

_FOLDERS = {
    "zenodo": (
        "COVID-19-CT-Seg_20cases",
        "Lung_Mask",
        "Infection_Mask",
        "Lung_and_Infection_Mask",
    ),
    "kaggle": ("ct_scans", "lung_mask", "infection_mask", "lung_and_infection_mask"),
}
_HARDLY_INFECTED = "radiopaedia_29_86490_1"  # As the real one.
_REVERSED = "radiopaedia_7_85703_0"  # Slices from top to bottom, as in the real one.
_FLOAT_MASKS = "coronacases_002"  # Labels of 1.9999, as after resampling.
_WINDOW_HU = (-1250, 250)


def write(
    root: pathlib.Path,
    num_cases: int,
    layout: Literal["zenodo", "kaggle"] = "zenodo",
    seed: int = 0,
) -> pathlib.Path:
    """Writes generated CTs with their masks; whole or not at all.

    They have the peculiarities of the real ones: Coronacases in HU and Radiopaedia windowed to
    0..255, different orientations, one volume with reversed slices, masks stored as float, one
    case with hardly any infection, and in Kaggle's layout different names for CTs and masks. The
    volumes are coarse: 72 to 112 voxels of 3.2 to 4.6 mm a row, 18 to 40 slices.

    Args:
        root: folder to make. If the same call made it before, nothing is done.
        num_cases: number of CTs, at least 2; see `case_ids`.
        layout: "zenodo" for four folders of .nii.gz, "kaggle" for .nii with a metadata.csv.
        seed: seed; equal seeds give equal trees.

    Returns:
        `root`.

    Raises:
        ValueError: too few cases, an unknown layout, or `root` holds something else.
    """
    if num_cases < 2:
        raise ValueError(f"num_cases: want at least 2, got {num_cases}.")
    if layout not in _FOLDERS:
        raise ValueError(f"layout: want one of {', '.join(_FOLDERS)}, got {layout!r}.")
    made_from = {"num_cases": num_cases, "layout": layout, "seed": seed}
    return whole_tree.write(
        root, made_from, lambda folder: _write_tree(folder, case_ids(num_cases), layout, seed)
    )


def case_ids(num_cases: int) -> list[str]:
    """Returns names of cases: half Coronacases, half Radiopaedia; above 20, only Coronacases."""
    num_radiopaedia = min(num_cases // 2, len(RADIOPAEDIA))
    coronacases = [f"coronacases_{n:03}" for n in range(1, num_cases - num_radiopaedia + 1)]
    return [*coronacases, *(f"radiopaedia_{name}" for name in RADIOPAEDIA[:num_radiopaedia])]


def make_case(case_id: str, seed: int) -> tuple[chest_ct.ChestCT, tuple[float, float, float]]:
    """Draws a case's scan, not yet windowed or reoriented, and its spacing in mm."""
    np_rng = np.random.default_rng([seed, *case_id.encode()])
    width = int(np_rng.integers(76, 113))
    height = max(72, round(width * np_rng.uniform(0.82, 1)))
    # 330 to 390 mm wide, 190 to 280 mm high.
    in_plane_mm = float(np.clip(np_rng.uniform(330, 390) / width, 3.2, 4.6))
    between_mm = round(float(np_rng.uniform(6, 9)), 2)
    depth = int(np.clip(np_rng.uniform(190, 280) / between_mm, 18, 40))
    infected = 0.002 if case_id == _HARDLY_INFECTED else float(np_rng.uniform(0.04, 0.3))
    spacing_mm = between_mm, round(in_plane_mm, 3), round(in_plane_mm, 3)
    shape, has_table = (depth, height, width), bool(np_rng.random() < 0.7)
    return chest_ct.make(np_rng, shape, spacing_mm, infected, has_table=has_table), spacing_mm


def ct_name(case_id: str, layout: str) -> str:
    """Returns the path of the CT in a tree; in Kaggle's layout it differs from its masks'."""
    return f"{_FOLDERS[layout][0]}/{_stems(case_id, layout)[0]}{_suffix(layout)}"


def mask_names(case_id: str, layout: str) -> tuple[str, str, str]:
    """Returns the paths of the masks in a tree: lungs, infection, both."""
    stem, (_, lungs, infection, both) = _stems(case_id, layout)[1], _FOLDERS[layout]
    file = f"{stem}{_suffix(layout)}"
    return f"{lungs}/{file}", f"{infection}/{file}", f"{both}/{file}"


def _stems(case_id: str, layout: str) -> tuple[str, str]:
    source, _, number = case_id.partition("_")
    if layout == "zenodo":
        return case_id, case_id
    if source == "coronacases":
        return f"coronacases_org_{number}", case_id
    return f"radiopaedia_org_covid-19-pneumonia-{number}-dcm", case_id


def _suffix(layout: str) -> str:
    return ".nii.gz" if layout == "zenodo" else ".nii"


def _write_tree(root: pathlib.Path, cases: list[str], layout: str, seed: int) -> None:
    for folder in _FOLDERS[layout]:
        (root / folder).mkdir(parents=True)
        (root / folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    for index, case_id in enumerate(cases):
        scan, spacing_mm = make_case(case_id, seed)
        affine = _affine(case_id, scan.image.shape, spacing_mm)
        image = scan.image
        if case_id.startswith("radiopaedia"):
            image = _windowed(image, np.float32 if index % 2 else np.uint8)
        _save(root / ct_name(case_id, layout), _turned(image, affine), affine)
        both = np.where(scan.infection_mask, np.uint8(3), scan.lung_mask)
        masks = scan.lung_mask, scan.infection_mask, both
        for name, mask in zip(mask_names(case_id, layout), masks, strict=True):
            if case_id == _FLOAT_MASKS:
                mask = mask * np.float32(0.99995)
            _save(root / name, _turned(mask, affine), affine)
    if layout == "kaggle":
        _write_metadata(root / "metadata.csv", cases)


def _affine(case_id: str, shape: tuple, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Returns the matrix from voxel (i, j, k) to RAS mm.

    Axes of Coronacases run to LPS, those of Radiopaedia to RAS, one to RAI. No origin is 0.
    """
    signs = [-1, -1, 1] if case_id.startswith("coronacases") else [1, 1, 1]
    if case_id == _REVERSED:
        signs[2] = -1
    steps_mm = np.multiply(signs, spacing_mm[::-1])
    affine = np.diag([*steps_mm, 1])
    affine[:3, 3] = -steps_mm * (np.array(shape[::-1]) - 1) / 2 + (3, -20, -140)
    return affine


def _turned(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns [D, H, W] (superior, posterior, left) as [i, j, k] along the axes of `affine`."""
    runs_to_lps = np.sign(np.diag(affine)[:3]) == (-1, -1, 1)
    steps = [slice(None, None, 1 if same else -1) for same in runs_to_lps]
    return volume.transpose(2, 1, 0)[tuple(steps)]


def _windowed(image: np.ndarray, dtype: type) -> np.ndarray:
    low, high = _WINDOW_HU
    return np.rint((np.clip(image, low, high) - low) / (high - low) * 255).astype(dtype)


def _save(path: pathlib.Path, volume: np.ndarray, affine: np.ndarray) -> None:
    content = nibabel.Nifti1Image(volume, affine).to_bytes()
    is_packed = path.name.endswith(".gz")
    # Stronger compression takes several times as long and saves a tenth. Without a time stamp,
    # because another run must give the same bytes.
    path.write_bytes(gzip.compress(content, 1, mtime=0) if is_packed else content)


def _write_metadata(path: pathlib.Path, cases: list[str]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ct_scan", "lung_mask", "infection_mask", "lung_and_infection_mask"])
        for case_id in cases:
            names = itertools.chain([ct_name(case_id, "kaggle")], mask_names(case_id, "kaggle"))
            rows.writerow(f"../input/covid19-ct-scans/{name}" for name in names)
