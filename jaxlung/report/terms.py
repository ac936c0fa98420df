"""Definitions of scores for readers, and the rows in which tables show them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Term:
    """A score as it is explained to readers.

    Attributes:
        label: Its name where it stands alone.
        definition: One or two sentences; "" for none.
        decimals: Digits after the decimal point.
        unit: Unit of the value, "" for none.
        scale: Factor applied to a value before it is written.
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
        title: The heading.
        labels: Score key -> label of its row.
        paper_key: Key of a published score of this kind whose averaging is unknown; "" for none.
    """

    title: str
    labels: dict[str, str]
    paper_key: str = ""


_MACRO = (
    "of each level, from the confusion matrix summed over the split; unweighted mean over the"
    " levels that have a value."
)
_MICRO = "with all pixels of all images and levels pooled."
_POOLED = "over the pixels of all images together, so large structures count more."
_MEAN = "computed for each image, then averaged over the images."
_DISTANCE = (
    "Measured in pixels of the stored image. It is 0 if both masks are empty. If only one is empty,"
    " there is no distance: such images are left out of the mean, and n gives the number of images"
    " in it."
)


def make_ece(unit: str) -> Term:
    """Returns the definition of the expected calibration error over units such as "pixel"."""
    return Term(
        "ECE",
        f"Expected calibration error (Naeini et al., 2015): {unit}s are sorted into 15 equal bins"
        " by predicted probability. In each bin, the gap is the difference between the mean"
        " probability and the share of positives. ECE is the mean gap, weighted by the number of"
        f" {unit}s in each bin. 0 means perfectly calibrated.",
    )


ACE = (
    "Average calibration error (Neumann et al., 2018): like ECE, but every filled bin counts the"
    " same."
)

TERMS = {
    "mse": Term("MSE", "Mean squared error of the raw output in [0, 1] over all pixels.", 5),
    "mae": Term("MAE", "Mean absolute error of the raw output in [0, 1] over all pixels.", 5),
    "loss": Term(
        "Loss",
        "The quantity that training minimises, averaged over the images. Cross-entropy is in nats"
        " per pixel.",
    ),
    "loss_excess": Term(
        "Loss above its floor",
        "Loss minus its lowest possible value, which is the entropy of soft targets. 0 is perfect.",
    ),
    "precision_macro": Term("Precision macro", f"Precision {_MACRO}"),
    "recall_macro": Term("Recall macro", f"Recall {_MACRO}"),
    "f1_macro": Term("F1 macro", f"F1 (= Dice) {_MACRO}"),
    "iou_macro": Term("IoU macro", f"Intersection over union {_MACRO}"),
    "precision_micro": Term("Precision micro", f"Precision {_MICRO}"),
    "recall_micro": Term("Recall micro", f"Recall {_MICRO}"),
    "f1_micro": Term(
        "F1 micro",
        f"F1 {_MICRO} Micro precision, recall and F1 are the same number: the share of pixels"
        " assigned to the correct level.",
    ),
    "iou_micro": Term("IoU micro", f"Intersection over union {_MICRO}"),
    "dice": Term("Dice", f"2 |A and B| / (|A| + |B|) for prediction A and annotation B, {_MEAN}"),
    "iou": Term(
        "IoU",
        f"Intersection over union, |A and B| / |A or B| for prediction A and annotation B, {_MEAN}",
    ),
    "mean_iou": Term("Mean IoU", f"Mean of the IoU of foreground and background, {_MEAN}"),
    "precision": Term(
        "Precision", f"TP / (TP + FP): share of the predicted pixels that are correct, {_MEAN}"
    ),
    "sensitivity": Term(
        "Sensitivity",
        f"TP / (TP + FN), also recall: share of the annotated pixels that are found, {_MEAN}",
    ),
    "specificity": Term(
        "Specificity",
        f"TN / (TN + FP): share of the background predicted as background, {_MEAN}",
    ),
    "accuracy": Term("Accuracy", f"Share of the pixels that are correct, {_MEAN}"),
    "accuracy_at_half": Term(
        "Accuracy at 0.5",
        f"Share of the pixels that are correct, {_MEAN} Pixels with an output above 0.5 are"
        " foreground here, as in Keras, whatever the threshold of the other scores.",
    ),
    "hd95": Term(
        "HD95",
        "95th percentile of the Hausdorff distance between the outlines of prediction and"
        f" annotation: the larger of the two directions. {_DISTANCE}",
        decimals=2,
        unit="pixels",
    ),
    "asd": Term(
        "ASD",
        "Average symmetric surface distance: mean distance from each point of either outline to"
        f" the other outline. {_DISTANCE}",
        decimals=2,
        unit="pixels",
    ),
    "dice_pooled": Term("Dice pooled", f"Dice {_POOLED}"),
    "iou_pooled": Term("IoU pooled", f"IoU {_POOLED}"),
    "mean_iou_pooled": Term(
        "Mean IoU pooled", f"Mean of the IoU of foreground and background {_POOLED}"
    ),
    "precision_pooled": Term(
        "Precision pooled", f"Share of the predicted pixels that are correct, {_POOLED}"
    ),
    "sensitivity_pooled": Term(
        "Sensitivity pooled", f"Share of the annotated pixels that are found, {_POOLED}"
    ),
    "specificity_pooled": Term(
        "Specificity pooled", f"Share of the background predicted as background, {_POOLED}"
    ),
    "accuracy_pooled": Term("Accuracy pooled", f"Share of the pixels that are correct, {_POOLED}"),
    "ece": make_ece("pixel"),
    "ace": Term(
        "ACE",
        f"{ACE} Most pixels are plain background, which keeps ECE small whatever happens to the"
        " other pixels; for ACE they fill only one of the 15 bins. Bins with few pixels make ACE"
        " noisy.",
    ),
}
LEVEL_TERMS = {
    "precision": Term(
        "Precision", "Share of the pixels predicted as this level that are annotated as it."
    ),
    "recall": Term(
        "Recall", "Share of the pixels annotated as this level that are predicted as it."
    ),
    "f1": Term("F1", "Harmonic mean of precision and recall; the same number as Dice."),
    "iou": Term(
        "IoU",
        "Number of pixels both predicted and annotated as this level, divided by the number that"
        " are either.",
    ),
}
STORED = "_stored"  # suffix of the key of a score that is taken at each image's own size
STORED_TERM = Term(
    "At stored size",
    "The prediction is scaled back to the size of its stored image before it is scored.",
)
COUNTS_TERM = Term(
    "TP, FP, FN, TN",
    "Counts of true positives (correctly called positive), false positives (wrongly called"
    " positive), false negatives (wrongly called negative) and true negatives (correctly called"
    " negative).",
)
THRESHOLD_TERM = Term("Threshold", "Outputs above this value count as positive.")
TEMPERATURE_TERM = Term(
    "Temperature",
    "The network's logits are divided by this number before they become probabilities (Guo et al.,"
    " 2017). Above 1 it makes probabilities less extreme, below 1 more. It changes no mask at the"
    " network's size, as the threshold moves along.",
)
ROC_TERM = Term(
    "ROC curve",
    "True positive rate, TPR = TP / (TP + FN), against false positive rate, FPR = FP / (FP + TN),"
    " for all thresholds.",
)
SIZE_TERM = Term(
    "Quartiles of size",
    "The images with any foreground are ordered by the annotated area and divided into four groups"
    " of equal number. Scores are means over the images of a group. The smaller the structure, the"
    " more each wrong pixel costs.",
)
INTERVAL_TERM = Term(
    "95 % interval",
    "A range that is meant to contain the true score for 95 of 100 such samples of patients. It is"
    " computed by a jackknife, which leaves out each patient with all of their images in turn,"
    " and Student's t distribution, on a scale that keeps the ends within the possible scores."
    " There is no interval for a score of fewer than two patients, or one that is the same for all"
    " patients. The interval shows how much the score may change with another sample of patients,"
    " not with another training run.",
)
EMPTY_RULE = (
    "If annotation and prediction are both empty, Dice (F1) and IoU are 1 and distances are 0:"
    " finding nothing was correct. If only one of them is empty, Dice and IoU are 0 and there is no"
    " distance. Ratios of 0 to 0 have no value: sensitivity (recall) where nothing is annotated,"
    " precision where nothing is predicted, specificity where there is no background. Images"
    " without a value are left out of the mean, and n gives the number of images in it."
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
AT_HALF = Group("At threshold 0.5", {"accuracy_at_half": "Accuracy"})
RAW = Group(
    "Raw output",
    {"mse": "MSE", "mae": "MAE", "loss": "Loss", "loss_excess": "Loss above floor"},
)
GROUPS = (
    Group("Mean over images", _OVERLAPS),
    AT_HALF,
    Group("Distance, pixels of the stored image", {"hd95": "HD95", "asd": "ASD"}),
    Group("All pixels pooled", {f"{key}_pooled": label for key, label in _OVERLAPS.items()}),
    Group("Precision", {f"precision_{a}": a for a in _AVERAGES}, paper_key="precision"),
    Group("Recall", {f"recall_{a}": a for a in _AVERAGES}, paper_key="recall"),
    Group("F1", {f"f1_{a}": a for a in _AVERAGES}, paper_key="f1"),
    Group("IoU", {f"iou_{a}": a for a in _AVERAGES}, paper_key="iou"),
    RAW,
)
