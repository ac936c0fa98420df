"""Zhang, section 6 (future work): is COVID-19 diagnosis better from the lungs alone?

Four runs: the lung network, then diagnosis from the whole image as in the paper, from the lungs
that the lung network finds, and from the annotated lungs.

    jaxlung study diagnosis_lungs
    jaxlung study diagnosis_lungs:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    lungs = f"v7_lungs:{arg}" if arg else "v7_lungs"
    return study.Study(
        title="Diagnosis from the whole X-ray and from its lungs, Zhang",
        runs=(
            study.Run("v7_lungs", "lung network", lungs, in_table=False),
            study.Run("none", "whole image", f"v7_diagnosis:lungs=none{end}"),
            study.Run(
                "predicted",
                "inside predicted lungs",
                f"v7_diagnosis:lungs=predicted{end}",
                {"lungs_run": "{runs}/v7_lungs"},
            ),
            study.Run("true", "inside annotated lungs", f"v7_diagnosis:lungs=true{end}"),
        ),
        columns=("auc", "accuracy_at_half", "accuracy", "sensitivity", "specificity"),
        paper=(
            study.PaperRow("validation", {"auc": 0.985, "accuracy_at_half": 0.9666}),
            study.PaperRow("training", {"accuracy_at_half": 0.9620}, in_chart=False),
        ),
        notes=(
            "The paper's network sees the whole image, and the validation split that stops its "
            "training is the one that it reports. Our test split is of other patients.",
            "The paper's accuracy is Keras's, at threshold 0.5. Our `accuracy`, sensitivity and "
            "specificity are at the threshold that is chosen on the validation split.",
        ),
    )
