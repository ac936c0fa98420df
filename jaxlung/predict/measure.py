"""Measures one prediction: sizes, sides and confidence, for a row of predictions.csv."""

import math

import numpy as np
from scipy import special

from jaxlung.metrics import volume
from jaxlung.predict import sides, thorax

# Pictures have areas, CTs have volumes; "left" and "right" are the patient's.
COLUMNS = (
    "lung_area_px",
    "right_lung_area_px",
    "left_lung_area_px",
    "infection_area_px",
    "right_infection_area_px",
    "left_infection_area_px",
    "lung_area_mm2",
    "right_lung_area_mm2",
    "left_lung_area_mm2",
    "infection_area_mm2",
    "right_infection_area_mm2",
    "left_infection_area_mm2",
    "lung_volume_ml",
    "right_lung_volume_ml",
    "left_lung_volume_ml",
    "infection_volume_ml",
    "right_infection_volume_ml",
    "left_infection_volume_ml",
    "thoracic_width_px",
    "thoracic_width_mm",
    "infected_share",  # 0 to 1; so are the next two
    "right_infected_share",
    "left_infected_share",
    "confidence",  # 0 to 1
    "entropy_bits",
)
TARGETS = ("infection", "lung")


def measure(
    preds: np.ndarray,
    probs: np.ndarray | None,
    lungs: np.ndarray | None,
    spacing: tuple[float, ...] | None,
    *,
    target: str,
    mirrored: bool | None = None,
    affine: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns all numbers of one picture or volume by the names in `COLUMNS`.

    Sizes are numbers of pixels times their area, or of voxels times their volume. An X-ray is a
    projection, and its spacing is mostly that of the detector. The body is nearer to the tube, so
    mm2 are too large by the magnification squared. "lung_*" covers both lungs. Infection counts
    everywhere, but the infection of one side only within that lung. A share is the infection within
    a lung divided by that lung.

    Sides come from `sides.part`. An X-ray is taken to be shown as usual, with the patient's right
    on the image's left, unless `mirrored` is True. A CT's columns point to the patient's left.

    The thoracic width is the largest horizontal distance between the outer borders of both lungs on
    a picture, see `thorax.width`.

    Confidence is the mean of `probs` inside `preds`. Entropy is the mean over pixels of
    -p log2 p - (1-p) log2 (1-p), from 0 (sure) to 1 (undecided); over the lungs if the target is
    infection and lungs were found, else over the whole image. Neither is calibrated unless the run
    was, with `config.calibrate`.

    Undefined numbers are NaN, which becomes an empty cell: areas and widths of a volume, and
    volumes of a picture; mm and mm2 without a spacing; numbers that need lungs if no network looked
    for them; the share of a lung that was not found; the thoracic width unless both lungs were
    found; confidence if nothing was found. The size of something looked for and not found is 0.

    Args:
        preds: [H, W] or [D, H, W] bool, the predicted mask, upright or in canonical order.
        probs: probabilities of `preds` in [0, 1], of the same shape; None if there are none.
        lungs: mask of the lungs, bool, of the same shape; None if no network looked for lungs.
            Ignored if the target is "lung".
        spacing: mm along the axes of `preds`; may be None for a picture.
        target: meaning of `preds`, one of `TARGETS`.
        mirrored: see `Picture.mirrored`; None counts as False. Ignored for volumes.
        affine: [4, 4], the affine of the volume's file, which gives the volume of voxels on a
            sheared grid (a tilted gantry), too; None uses the product of the spacing.

    Raises:
        ValueError: the target is unknown, arrays differ in shape or aren't bool, the mask is
            neither 2D nor 3D, or the spacing doesn't fit.
    """
    if target not in TARGETS:
        raise ValueError(f"target: want one of {', '.join(TARGETS)}, got {target!r}.")
    if target == "lung":
        lungs = preds
    _check(preds, probs, lungs, spacing)
    regions = {} if lungs is None else _regions(lungs, bool(mirrored))
    infection = preds if target == "infection" else None
    row = dict.fromkeys(COLUMNS, math.nan)
    for unit, size in _units(preds.ndim, spacing, affine).items():
        row.update(_sizes(regions, infection, unit, size))
    if regions and preds.ndim == 2:
        row.update(_width(regions, spacing))
    row.update(_shares(regions, infection))
    row.update(_certainty(preds, probs, lungs if target == "infection" else None))
    return row


def _check(
    preds: np.ndarray,
    probs: np.ndarray | None,
    lungs: np.ndarray | None,
    spacing: tuple[float, ...] | None,
) -> None:
    if preds.ndim not in (2, 3) or preds.dtype != bool:
        raise ValueError(f"preds: want [H, W] or [D, H, W] bool, got {preds.shape} {preds.dtype}.")
    for name, array in (("probs", probs), ("lungs", lungs)):
        if array is not None and array.shape != preds.shape:
            raise ValueError(f"{name}: want the shape of preds {preds.shape}, got {array.shape}.")
    if preds.ndim == 3 and spacing is None:
        raise ValueError("spacing: want mm along the three axes of a volume, got None.")
    if spacing is not None and (len(spacing) != preds.ndim or not 0 < min(spacing) < math.inf):
        raise ValueError(f"spacing: want {preds.ndim} numbers of mm above 0, got {spacing}.")


def _regions(lungs: np.ndarray, mirrored: bool) -> dict[str, np.ndarray]:
    """Returns both lungs together, the right and the left one, by prefix of the columns."""
    right, left = sides.part(lungs)
    if mirrored and lungs.ndim == 2:
        right, left = left, right
    return {"": lungs, "right_": right, "left_": left}


def _units(
    num_axes: int, spacing: tuple[float, ...] | None, affine: np.ndarray | None
) -> dict[str, float]:
    """Returns the size of one pixel or voxel by unit."""
    if num_axes == 2:
        return {"area_px": 1.0} | ({} if spacing is None else {"area_mm2": math.prod(spacing)})
    assert spacing is not None
    return {"volume_ml": volume.ml_of_voxel(np.diag(spacing) if affine is None else affine)}


def _sizes(
    regions: dict[str, np.ndarray], infection: np.ndarray | None, unit: str, size: float
) -> dict[str, float]:
    sizes = {f"{side}lung_{unit}": _count(lung) * size for side, lung in regions.items()}
    if infection is not None:
        sizes |= {
            f"{side}infection_{unit}": _count(infection & lung) * size
            for side, lung in regions.items()
        }
        sizes[f"infection_{unit}"] = _count(infection) * size
    return sizes


def _width(regions: dict[str, np.ndarray], spacing: tuple[float, ...] | None) -> dict[str, float]:
    if not (regions["right_"].any() and regions["left_"].any()):
        return {}
    width = thorax.width(regions[""])
    return {"thoracic_width_px": width} | (
        {} if spacing is None else {"thoracic_width_mm": width * spacing[1]}
    )


def _shares(regions: dict[str, np.ndarray], infection: np.ndarray | None) -> dict[str, float]:
    if infection is None:
        return {}
    return {
        f"{side}infected_share": _count(infection & lung) / _count(lung)
        for side, lung in regions.items()
        if lung.any()
    }


def _certainty(
    preds: np.ndarray, probs: np.ndarray | None, within: np.ndarray | None
) -> dict[str, float]:
    if probs is None:
        return {}
    judged = probs[within] if within is not None and within.any() else probs
    certainty = {"entropy_bits": mean_entropy_bits(judged)}
    if preds.any():
        certainty["confidence"] = float(np.mean(probs[preds], dtype=np.float64))
    return certainty


def mean_entropy_bits(probs: np.ndarray) -> float:
    """Returns the mean entropy of probabilities of any shape, from 0 (sure) to 1 (undecided)."""
    # Rounding may lead slightly outside of [0, 1], where entr is -inf.
    probs = np.clip(probs, 0, 1)
    nats = special.entr(probs) + special.entr(1 - probs)
    return float(np.mean(nats, dtype=np.float64)) / math.log(2)


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))
