"""Zhang, section 5.4: what is cut off the X-rays before diagnosis, and the letters with it.

10 pixels off top, left and right, as the paper's network; and 20 off left and top, as the one that
it trained before. Letters at the edge tell the classes apart, "L" at the right among them.

    python -m jaxlung.main --mode=study --study=diagnosis_crops
    python -m jaxlung.main --mode=study --study=diagnosis_crops:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """The study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Diagnosis by what is cut off the X-ray, Zhang",
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
            "The paper's two networks differ on its training images only, and it takes that for "
            "letters at the right. Our scores of the training images are in the runs' reports.",
            "The paper's accuracy is Keras's, at threshold 0.5; our other accuracy, sensitivity "
            "and specificity are at the threshold that is chosen on the validation split.",
        ),
    )
