"""What scores are called, how they are averaged, and in which columns they stand."""

import dataclasses
import math
from collections.abc import Collection, Sequence


@dataclasses.dataclass(frozen=True)
class Term:
    """A score for readers.

    Attributes:
        label: its name where it stands alone.
        definition: one line.
        decimals: digits after the point.
    """

    label: str
    definition: str
    decimals: int = 4


@dataclasses.dataclass(frozen=True)
class Group:
    """Neighbouring columns under one heading.

    Attributes:
        title: the heading.
        columns: key -> label under the heading.
        paper_key: a paper's number of this kind whose averaging is not known, or "".
    """

    title: str
    columns: dict[str, str]
    paper_key: str = ""


_MACRO = "of each level from the confusion matrix summed over the split; unweighted mean of levels."
_MICRO = "with all pixels of all images and levels pooled."
_POOLED = "over the pixels of all images together; large structures count more."

TERMS = {
    "mse": Term("MSE", "Mean squared error of the raw output in [0, 1], over all pixels.", 5),
    "mae": Term("MAE", "Mean absolute error of the raw output in [0, 1], over all pixels.", 5),
    "loss": Term("Loss", "Mean binary cross-entropy per pixel, in nats."),
    "loss_excess": Term(
        "Loss above its floor",
        "Loss minus the least value the targets allow, the entropy of soft targets; 0 is perfect.",
    ),
    "precision_macro": Term("Precision macro", f"Precision {_MACRO}"),
    "recall_macro": Term("Recall macro", f"Recall {_MACRO}"),
    "f1_macro": Term("F1 macro", f"F1 (= Dice) {_MACRO}"),
    "iou_macro": Term("IoU macro", f"Intersection over union {_MACRO}"),
    "precision_micro": Term("Precision micro", f"Precision {_MICRO}"),
    "recall_micro": Term("Recall micro", f"Recall {_MICRO}"),
    "f1_micro": Term(
        "F1 micro", f"F1 {_MICRO} Equals the other two: the share of pixels that are right."
    ),
    "iou_micro": Term("IoU micro", f"Intersection over union {_MICRO}"),
    "dice": Term("Dice", "2 |A and B| / (|A| + |B|) of each image; mean over the images."),
    "iou": Term("IoU", "|A and B| / |A or B| of each image; mean over the images."),
    "dice_pooled": Term("Dice pooled", f"Dice {_POOLED}"),
    "iou_pooled": Term("IoU pooled", f"IoU {_POOLED}"),
    "precision_pooled": Term(
        "Precision pooled", f"Share of predicted pixels that are right, {_POOLED}"
    ),
    "recall_pooled": Term("Recall pooled", f"Share of annotated pixels that are found, {_POOLED}"),
    "accuracy_pooled": Term("Accuracy pooled", f"Share of pixels that are right, {_POOLED}"),
}
LEVEL_TERMS = {
    "precision": Term("Precision", "Of the pixels predicted as this level, the share that is it."),
    "recall": Term("Recall", "Of the pixels annotated as this level, the share that is found."),
    "f1": Term("F1", "Harmonic mean of precision and recall; the same number as Dice."),
    "iou": Term("IoU", "Pixels that are both predicted and annotated, over those that are either."),
}
STORED = "_stored"  # ends the key of a score that is taken at each image's own size
STORED_TERM = Term(
    "At stored size", "The prediction is scaled back to its image's own size, then scored."
)
EMPTY_RULE = "An empty annotation and an empty prediction score 1: finding nothing was right."

_AVERAGES = ("macro", "micro")
GROUPS = (
    Group("Mean over images", {"dice": "Dice", "iou": "IoU"}),
    Group(
        "All pixels pooled",
        {
            "dice_pooled": "Dice",
            "iou_pooled": "IoU",
            "precision_pooled": "precision",
            "recall_pooled": "recall",
            "accuracy_pooled": "accuracy",
        },
    ),
    Group("Raw output", {"mse": "MSE", "mae": "MAE"}),
    Group("Precision", {f"precision_{a}": a for a in _AVERAGES}, paper_key="precision"),
    Group("Recall", {f"recall_{a}": a for a in _AVERAGES}, paper_key="recall"),
    Group("F1", {f"f1_{a}": a for a in _AVERAGES}, paper_key="f1"),
    Group("IoU", {f"iou_{a}": a for a in _AVERAGES}, paper_key="iou"),
    Group("Loss", {"loss": "BCE", "loss_excess": "above floor"}),
)
# The first of these that a run has stand large at the top of its page.
HEADLINES = (
    "dice_stored",
    "dice",
    "iou_stored",
    "iou",
    "f1_macro",
    "iou_macro",
    "f1_infection",
    "mae",
)


def find_term(key: str, levels: Sequence[str]) -> Term:
    """What `key` means; a key that nobody described stands for itself."""
    if key.endswith(STORED):
        term = find_term(key.removesuffix(STORED), levels)
        return Term(f"{term.label} at stored size", term.definition, term.decimals)
    score, _, level = key.partition("_")
    if key not in TERMS and score in LEVEL_TERMS and level in levels:
        term = LEVEL_TERMS[score]
        return Term(f"{term.label} {level}", term.definition)
    return TERMS.get(key, Term(key, ""))


def choose_groups(keys: Collection[str], levels: Sequence[str]) -> list[Group]:
    """The columns that show `keys`; those of single levels are left to a table of their own."""
    groups = []
    for group in GROUPS:
        shown = {key: label for key, label in group.columns.items() if key in keys}
        if shown:
            groups.append(dataclasses.replace(group, columns=shown))
    known = {key for group in GROUPS for key in group.columns}
    known |= {f"{score}_{level}" for score in LEVEL_TERMS for level in levels}
    other = {key: key for key in keys if key not in known}
    return [*groups, Group("Other", other)] if other else groups


def format_score(key: str, value: float | None) -> str:
    """`value` with its score's decimals; an en dash for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.{find_term(key, ()).decimals}f}"
