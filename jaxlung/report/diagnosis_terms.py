"""Definitions of the scores of a positive or negative result for each whole image."""

from jaxlung.report import terms

TERMS = {
    "auc": terms.Term(
        "AUC",
        "Area under the ROC curve: the probability that a positive image gets a higher output than"
        " a negative one, where ties count half. 0.5 is chance. It depends on no threshold.",
    ),
    "accuracy": terms.Term("Accuracy", "Share of the images that are classified correctly."),
    "accuracy_at_half": terms.Term(
        "Accuracy at 0.5",
        "Share of the images that are classified correctly if outputs above 0.5 are positive, as"
        " in Keras.",
    ),
    "sensitivity": terms.Term(
        "Sensitivity",
        "TP / (TP + FN), also called recall or TPR: share of the positive images that are found.",
    ),
    "specificity": terms.Term(
        "Specificity",
        "TN / (TN + FP) = 1 - FPR: share of the negative images that are called negative.",
    ),
    "precision": terms.Term(
        "Precision", "TP / (TP + FP): share of the images called positive that are positive."
    ),
    "f1": terms.Term("F1", "Harmonic mean of precision and sensitivity."),
    "mse": terms.Term("MSE", "Mean squared error of the output in [0, 1] over all images.", 5),
    "mae": terms.Term("MAE", "Mean absolute error of the output in [0, 1] over all images.", 5),
    "loss": terms.Term(
        "Loss",
        "The quantity that training minimises, averaged over the images. Cross-entropy is in nats.",
    ),
    "ece": terms.make_ece("image"),
    "ace": terms.Term(
        "ACE", f"{terms.ACE} With few images, both errors are above 0 by chance alone."
    ),
}
EMPTY_RULE = (
    "Ratios of 0 to 0 have no value: sensitivity without positive images, specificity without"
    " negative images, precision if no image is called positive, F1 if no image is positive or"
    " called positive, and AUC without images of both classes."
)
GROUPS = (
    terms.Group("At every threshold", {"auc": "AUC"}),
    terms.Group(
        "At the chosen threshold",
        {
            key: TERMS[key].label
            for key in ("accuracy", "sensitivity", "specificity", "precision", "f1")
        },
    ),
    terms.AT_HALF,
    terms.RAW,
)
