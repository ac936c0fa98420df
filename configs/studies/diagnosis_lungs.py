"""Zhang, section 6, the paper's outlook: does COVID-19 diagnosis gain from seeing the lungs only?

The lung network first, then three diagnosis runs: on the whole image as in the paper, inside the
lungs that the first run finds, and inside the annotated ones.

    python -m jaxlung.main --mode=study --study=diagnosis_lungs
    python -m jaxlung.main --mode=study --study=diagnosis_lungs:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """The study; `arg` is "", "phantom" or "quick"."""
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
            "The paper sees the whole image and stops by the validation split that it reports. "
            "Ours are other images, held out by patient.",
            "The paper's accuracy is Keras's, at threshold 0.5; our other accuracy, sensitivity "
            "and specificity are at the threshold that is chosen on the validation split.",
        ),
    )
