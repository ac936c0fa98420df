"""Zhang, section 4.4: lungs learned from 500 X-rays without COVID-19, and from all 4,170.

Both runs also learn from all training X-rays with COVID-19, which are fewer than 500. Scores are of
held-out patients with COVID-19, as in the paper. Two runs of 15 epochs.

    jaxlung study v7_lungs_images
    jaxlung study v7_lungs_images:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Lungs by the number of training X-rays without COVID-19, Zhang",
        runs=(
            study.Run("all", "all", f"v7_lungs:per_class=0{end}"),
            study.Run("500", "500 of a class", f"v7_lungs:per_class=500{end}"),
        ),
        columns=("accuracy_at_half", "iou", "dice", "accuracy"),
        paper=(
            study.PaperRow("all", {"accuracy_at_half": 0.9575, "iou": 0.8666, "dice": 0.9273}),
            study.PaperRow("500 without COVID-19", {"accuracy_at_half": 0.9114}),
        ),
        notes=(
            "The paper's accuracy is Keras's, at threshold 0.5. IoU, Dice and our `accuracy` are "
            "at 0.2, as the paper's IoU and Dice.",
            "On its training images the paper has accuracies of 0.9697 and 0.9538. Ours are in the "
            "runs' reports.",
        ),
        split="validation",
    )
