"""The words of a page: what scores mean, how they are grouped, which of them stand large."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Term:
    """A score for readers.

    Attributes:
        label: its name where it stands alone.
        definition: one line.
        decimals: digits after the point.
        unit: "" for a score that has none.
        scale: what a value is multiplied by before it is written.
    """

    label: str
    definition: str
    decimals: int = 4
    unit: str = ""
    scale: float = 1


@dataclasses.dataclass(frozen=True)
class Group:
    """Neighbouring rows of a table under one heading.

    Attributes:
        title: the heading.
        labels: key -> label of its row.
        paper_key: a paper's number of this kind whose averaging is not known, or "".
    """

    title: str
    labels: dict[str, str]
    paper_key: str = ""


_MACRO = (
    "of each level from the confusion matrix summed over the split; unweighted mean of the levels"
    " that have a value."
)
_MICRO = "with all pixels of all images and levels pooled."
_POOLED = "over the pixels of all images together; large structures count more."
_MEAN = "in each image; mean over the images."
_DISTANCE = (
    "In pixels of the stored image; 0 where both masks are empty. Where one of them is, there is no"
    " distance: such images are left out of the mean, and n says how many are in it."
)


def _ece(counted: str) -> Term:
    return Term(
        "ECE",
        f"Expected calibration error (Naeini et al., 2015): {counted} are sorted into 15 equal bins"
        " by their predicted probability; in each, the gap between the mean probability and the"
        f" share that is positive; mean of the gaps, weighted by how many {counted} a bin has."
        " 0 is calibrated.",
    )


_ACE = "Average calibration error (Neumann et al., 2018): the same, every filled bin counting alike"

TERMS = {
    "mse": Term("MSE", "Mean squared error of the raw output in [0, 1], over all pixels.", 5),
    "mae": Term("MAE", "Mean absolute error of the raw output in [0, 1], over all pixels.", 5),
    "loss": Term(
        "Loss", "What training minimises, mean over the images; cross-entropy is in nats a pixel."
    ),
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
    "dice": Term("Dice", f"2 |A and B| / (|A| + |B|) {_MEAN}"),
    "iou": Term("IoU", f"|A and B| / |A or B| {_MEAN}"),
    "mean_iou": Term("Mean IoU", f"Mean of the IoU of foreground and background {_MEAN}"),
    "precision": Term("Precision", f"TP / (TP + FP): right share of the predicted pixels {_MEAN}"),
    "sensitivity": Term(
        "Sensitivity", f"TP / (TP + FN), also recall: found share of the annotated pixels {_MEAN}"
    ),
    "specificity": Term(
        "Specificity", f"TN / (TN + FP): share of the background that is left alone {_MEAN}"
    ),
    "accuracy": Term("Accuracy", f"Share of the pixels that are right {_MEAN}"),
    "accuracy_at_half": Term(
        "Accuracy at 0.5",
        f"Share of the pixels that are right {_MEAN} Here foreground is what has an output above"
        " 0.5, as Keras counts accuracy, whatever threshold the other scores have.",
    ),
    "hd95": Term(
        "HD95",
        "Hausdorff distance, 95th percentile: the larger of the two directions between outlines of"
        f" prediction and annotation. {_DISTANCE}",
        decimals=2,
        unit="pixels",
    ),
    "asd": Term(
        "ASD",
        "Average symmetric surface distance: mean distance from every point of either outline to"
        f" the other outline. {_DISTANCE}",
        decimals=2,
        unit="pixels",
    ),
    "dice_pooled": Term("Dice pooled", f"Dice {_POOLED}"),
    "iou_pooled": Term("IoU pooled", f"IoU {_POOLED}"),
    "mean_iou_pooled": Term(
        "Mean IoU pooled", f"Mean of the IoU of foreground and background {_POOLED}"
    ),
    "precision_pooled": Term("Precision pooled", f"Right share of the predicted pixels {_POOLED}"),
    "sensitivity_pooled": Term(
        "Sensitivity pooled", f"Found share of the annotated pixels {_POOLED}"
    ),
    "specificity_pooled": Term(
        "Specificity pooled", f"Share of the background that is left alone {_POOLED}"
    ),
    "accuracy_pooled": Term("Accuracy pooled", f"Share of the pixels that are right {_POOLED}"),
    "ece": _ece("pixels"),
    "ace": Term(
        "ACE",
        f"{_ACE}. Most pixels are plain background, which makes ECE small whatever happens to the"
        " others; here they fill one bin of 15. Bins of few pixels make it noisy.",
    ),
}
# Scores of a yes or no for each image; where they differ from those of masks, these hold.
DIAGNOSIS_TERMS = {
    "auc": Term(
        "AUC",
        "Area under the ROC curve: how often a positive image gets a higher output than a negative"
        " one, ties counting half. 0.5 is chance; no threshold is involved.",
    ),
    "accuracy": Term("Accuracy", "Share of the images that are right."),
    "accuracy_at_half": Term(
        "Accuracy at 0.5",
        "Share of the images that are right where an output above 0.5 is positive, as Keras counts"
        " accuracy.",
    ),
    "sensitivity": Term(
        "Sensitivity", "TP / (TP + FN), also recall or TPR: found share of the positive images."
    ),
    "specificity": Term(
        "Specificity", "TN / (TN + FP), 1 - FPR: share of the negative images called negative."
    ),
    "precision": Term("Precision", "TP / (TP + FP): share of the images called positive that are."),
    "f1": Term("F1", "Harmonic mean of precision and sensitivity."),
    "mse": Term("MSE", "Mean squared error of the output in [0, 1], over all images.", 5),
    "mae": Term("MAE", "Mean absolute error of the output in [0, 1], over all images.", 5),
    "loss": Term("Loss", "What training minimises, mean over the images; cross-entropy in nats."),
    "ece": _ece("images"),
    "ace": Term("ACE", f"{_ACE}. Of few images both are above 0 by chance alone."),
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
COUNTS_TERM = Term(
    "TP, FP, FN, TN",
    "True and false positives, false and true negatives: called positive rightly or wrongly, called"
    " negative wrongly or rightly.",
)
THRESHOLD_TERM = Term("Threshold", "What has an output above it counts as positive.")
ROC_TERM = Term(
    "ROC curve",
    "TPR = TP / (TP + FN) against FPR = FP / (FP + TN), from strict thresholds to lax ones.",
)
SIZE_TERM = Term(
    "Quartiles of size",
    "The images with any foreground, ordered by how much of it is annotated, in four groups of"
    " equally many. Scores are means over a group's images; the smaller the structure, the more"
    " every wrong pixel costs.",
)
INTERVAL_TERM = Term(
    "95 % interval",
    "Range that is to hold the true score in 95 of 100 such samples of patients: jackknife, each"
    " patient left out with all of their images, with Student's t, on a scale that keeps the ends"
    " among possible scores. A score of fewer than two patients, or that is the same for all of"
    " them, has none. Says how far another sample of patients may move the score, not how far"
    " another training run may.",
)
_COUNTED = (
    " Without a value a score is left out of the mean, and n says how many images the mean is of."
)
EMPTY_RULE = (
    "Where annotation and prediction are both empty, Dice (F1) and IoU are 1 and distances 0:"
    " finding nothing was right. Where one of them is empty, Dice and IoU are 0, and there is no"
    " distance. Ratios of 0 to 0 have no value: sensitivity (recall) where nothing is annotated,"
    f" precision where nothing is predicted, specificity where there is no background.{_COUNTED}"
)
DIAGNOSIS_EMPTY_RULE = (
    "Ratios of 0 to 0 have no value: sensitivity without a positive image, specificity without a"
    " negative one, precision where none is called positive, F1 without any of them, AUC without"
    " both kinds."
)

_AVERAGES = ("macro", "micro")
_OVERLAPS = {
    "dice": "Dice",
    "iou": "IoU",
    "mean_iou": "Mean IoU",
    "precision": "Precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
}
_AT_HALF = Group("At threshold 0.5", {"accuracy_at_half": "Accuracy"})
_RAW = Group(
    "Raw output",
    {"mse": "MSE", "mae": "MAE", "loss": "Loss", "loss_excess": "Loss above floor"},
)
GROUPS = (
    Group("Mean over images", _OVERLAPS),
    _AT_HALF,
    Group("Distance, pixels of the stored image", {"hd95": "HD95", "asd": "ASD"}),
    Group("All pixels pooled", {f"{key}_pooled": label for key, label in _OVERLAPS.items()}),
    Group("Precision", {f"precision_{a}": a for a in _AVERAGES}, paper_key="precision"),
    Group("Recall", {f"recall_{a}": a for a in _AVERAGES}, paper_key="recall"),
    Group("F1", {f"f1_{a}": a for a in _AVERAGES}, paper_key="f1"),
    Group("IoU", {f"iou_{a}": a for a in _AVERAGES}, paper_key="iou"),
    _RAW,
)
DIAGNOSIS_GROUPS = (
    Group("At every threshold", {"auc": "AUC"}),
    Group(
        "At the chosen threshold",
        {
            key: DIAGNOSIS_TERMS[key].label
            for key in ("accuracy", "sensitivity", "specificity", "precision", "f1")
        },
    ),
    _AT_HALF,
    _RAW,
)
# Task -> scores that stand large at the top of its page, at the stored size where they are.
HEADLINES = {
    "three_level": ("f1_macro", "iou_macro", "f1_infection", "mae"),
    "mask": ("dice", "iou", "mean_iou", "hd95"),
    "volume_mask": ("dice", "nsd", "hd95", "volume_error_ml"),
    "diagnosis": ("auc", "sensitivity", "specificity", "accuracy"),
}
