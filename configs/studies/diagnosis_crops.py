"""Zhang, section 5.4: edges that are cut off the X-rays before diagnosis, with the letters on them.

One run cuts 10 pixels off top, left and right, as the paper's final network does. The other cuts 20
off left and top, as its earlier network did. Letters at the edges, such as "L" at the right, tell
the classes apart.

    jaxlung study diagnosis_crops
    jaxlung study diagnosis_crops:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Diagnosis with two ways to cut off edges, Zhang",
        runs=(
            study.Run("edges", "10 off top, left, right", f"v7_diagnosis:crop=edges{end}"),
            study.Run("corner", "20 off top, left", f"v7_diagnosis:crop=corner{end}"),
        ),
        columns=("auc", "accuracy_at_half", "accuracy", "sensitivity", "specificity"),
        paper=(
            study.PaperRow(
                "validation, 10 off top, left, right", {"auc": 0.985, "accuracy_at_half": 0.9666}
            ),
            study.PaperRow("validation, 20 off top, left", {"accuracy_at_half": 0.9666}),
            study.PaperRow(
                "training, 10 off top, left, right", {"accuracy_at_half": 0.9620}, in_chart=False
            ),
            study.PaperRow(
                "training, 20 off top, left", {"accuracy_at_half": 0.9723}, in_chart=False
            ),
        ),
        notes=(
            "The paper's two networks differ on its training images only, which it puts down to "
            "letters at the right. Our scores on the training images are in the runs' reports.",
            "The paper's accuracy is Keras's, at threshold 0.5. Our `accuracy`, sensitivity and "
            "specificity are at the threshold that is chosen on the validation split.",
        ),
    )
