"""Definitions of scores for CT volumes, where they differ from those for images."""

import dataclasses

from jaxlung.report import terms

_WORDS = {
    "annotated area": "annotated volume",
    "X-ray": "CT",
    "an image": "a volume",
    "image": "volume",
    "Image": "Volume",
    "pixel": "voxel",
}


def reword(text: str) -> str:
    """Returns a text about images and pixels as one about volumes and voxels."""
    for ours, theirs in _WORDS.items():
        text = text.replace(ours, theirs)
    return text


_OVERLAPS = ("dice", "iou", "mean_iou", "precision", "sensitivity", "specificity", "accuracy")
_DISTANCE = (
    "Measured in mm between the centres of surface voxels. It is 0 if both masks are empty. If only"
    " one is empty, there is no distance: such volumes are left out of the mean, and n gives the"
    " number of volumes in it."
)
_SHARE = "With infection as the target, this is the infected share of the lungs."
TERMS = {
    key: dataclasses.replace(term, definition=reword(term.definition))
    for key, term in terms.TERMS.items()
    if key.removesuffix("_pooled") in (*_OVERLAPS, "mse", "mae")
} | {
    "hd95": terms.Term(
        "HD95",
        "95th percentile of the Hausdorff distance between the surfaces of prediction and"
        f" annotation: the larger of the two directions. {_DISTANCE}",
        decimals=2,
        unit="mm",
    ),
    "asd": terms.Term(
        "ASD",
        "Average symmetric surface distance: mean distance from each voxel of either surface to"
        f" the other surface. {_DISTANCE}",
        decimals=2,
        unit="mm",
    ),
    "nsd": terms.Term(
        "NSD at 1 mm",
        "Normalised surface distance, also called surface Dice: share of the voxels of both"
        " surfaces that lie within 1 mm of the other surface. It is 1 if both masks are empty and 0"
        " if only one is.",
    ),
    "nsd_by_area": terms.Term(
        "NSD by area at 1 mm",
        "Normalised surface distance as DeepMind's surface-distance computes it (Nikolov et al.,"
        " 2021): as NSD, but pieces of surface count by their area. It is 1 if both masks are empty"
        " and 0 if only one is.",
    ),
    "volume_ml": terms.Term("Volume predicted", "Volume of all predicted voxels in mL.", 2, "mL"),
    "true_volume_ml": terms.Term(
        "Volume annotated", "Volume of all annotated voxels in mL.", 2, "mL"
    ),
    "volume_error_ml": terms.Term(
        "Volume error",
        "Predicted minus annotated volume in mL; negative if too little is found.",
        2,
        "mL",
    ),
    "share": terms.Term(
        "Share of the lungs predicted",
        f"Share of the lungs' voxels that are predicted, in %. {_SHARE}",
        2,
        "%",
        100,
    ),
    "true_share": terms.Term(
        "Share of the lungs annotated",
        f"Share of the lungs' voxels that are annotated, in %. {_SHARE}",
        2,
        "%",
        100,
    ),
    "share_error": terms.Term(
        "Share error",
        "Predicted minus annotated share of the lungs, in percentage points; negative if too little"
        " is found.",
        2,
        "%",
        100,
    ),
}
SPREAD_TERM = terms.Term(
    "\N{PLUS-MINUS SIGN}",
    "Standard deviation over the volumes (n - 1): how much they differ from one another.",
)

_AMOUNTS = {"volume_ml": "predicted", "true_volume_ml": "annotated", "volume_error_ml": "error"}
_SURFACES = ("hd95", "asd", "nsd", "nsd_by_area")
_SHARES = {"share": "predicted", "true_share": "annotated", "share_error": "error"}
GROUPS = (
    terms.Group("Mean over volumes", {key: TERMS[key].label for key in _OVERLAPS}),
    terms.Group(
        "Surfaces: distances in mm",
        {k: TERMS[k].label for k in ("hd95", "asd", "nsd", "nsd_by_area")},
    ),
    terms.Group("Volume, mL", _AMOUNTS),
    terms.Group("Share of the lungs, %", _SHARES),
    terms.Group("All voxels pooled", {f"{key}_pooled": TERMS[key].label for key in _OVERLAPS}),
    terms.Group("Raw output", {key: TERMS[key].label for key in ("mse", "mae")}),
)
