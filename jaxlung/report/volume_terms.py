"""The words of a page about CT volumes, where they are not those of images."""

import dataclasses

from jaxlung.report import terms

_WORDS = {"X-ray": "CT", "an image": "a volume", "image": "volume", "pixel": "voxel"}


def reword(text: str) -> str:
    """What is said of images and their pixels, said of volumes and their voxels."""
    for ours, theirs in _WORDS.items():
        text = text.replace(ours, theirs)
    return text


_OVERLAPS = ("dice", "iou", "mean_iou", "precision", "sensitivity", "specificity", "accuracy")
_DISTANCE = (
    "In mm, between centres of surface voxels; 0 where both masks are empty. Where one of them is,"
    " there is no distance: such volumes are left out of the mean, and n says how many are in it."
)
_SHARE = "as a share of the lungs' voxels, in %. With infection: how much of the lungs is infected."
_ERROR = "Predicted minus annotated: below 0, too little is found."
TERMS = {
    key: dataclasses.replace(term, definition=reword(term.definition))
    for key, term in terms.TERMS.items()
    if key.removesuffix("_pooled") in (*_OVERLAPS, "mse", "mae")
} | {
    "hd95": terms.Term(
        "HD95",
        "Hausdorff distance, 95th percentile: the larger of the two directions between surfaces of"
        f" prediction and annotation. {_DISTANCE}",
        decimals=2,
        unit="mm",
    ),
    "asd": terms.Term(
        "ASD",
        "Average symmetric surface distance: mean distance from every voxel of either surface to"
        f" the other surface. {_DISTANCE}",
        decimals=2,
        unit="mm",
    ),
    "nsd": terms.Term(
        "NSD at 1 mm",
        "Normalised surface distance, also surface Dice: share of the voxels of both surfaces that"
        " lie within 1 mm of the other surface. Two empty masks have 1, one of them 0.",
    ),
    "volume_ml": terms.Term("Volume predicted", "Of all predicted voxels, in mL.", 2, "mL"),
    "true_volume_ml": terms.Term("Volume annotated", "Of all annotated voxels, in mL.", 2, "mL"),
    "volume_error_ml": terms.Term("Volume error", f"{_ERROR} In mL.", 2, "mL"),
    "share": terms.Term(
        "Share of the lungs predicted", f"Predicted voxels within the lungs {_SHARE}", 2, "%", 100
    ),
    "true_share": terms.Term(
        "Share of the lungs annotated", f"Annotated voxels within the lungs {_SHARE}", 2, "%", 100
    ),
    "share_error": terms.Term(
        "Share error", f"{_ERROR} In percentage points of the lungs.", 2, "%", 100
    ),
}
SPREAD_TERM = terms.Term(
    "\N{PLUS-MINUS SIGN}",
    "Standard deviation over the volumes, with n - 1: how much they differ from one another.",
)

_AMOUNTS = {"volume_ml": "predicted", "true_volume_ml": "annotated", "volume_error_ml": "error"}
_SHARES = {"share": "predicted", "true_share": "annotated", "share_error": "error"}
GROUPS = (
    terms.Group("Mean over volumes", {key: TERMS[key].label for key in _OVERLAPS}),
    terms.Group("Surfaces: distances in mm", {k: TERMS[k].label for k in ("hd95", "asd", "nsd")}),
    terms.Group("Volume, mL", _AMOUNTS),
    terms.Group("Share of the lungs, %", _SHARES),
    terms.Group("All voxels pooled", {f"{key}_pooled": TERMS[key].label for key in _OVERLAPS}),
    terms.Group("Raw output", {key: TERMS[key].label for key in ("mse", "mae")}),
)
