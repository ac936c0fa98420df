"""Zhang, section 4.4: lungs learned from 500 X-rays without COVID-19, and from all 4,170.

Both with all training X-rays of COVID-19, fewer than 500; scored on held-out patients with
COVID-19, as the paper's. Two runs of 15 epochs.

    python -m jaxlung.main --mode=study --study=v7_lungs_images
    python -m jaxlung.main --mode=study --study=v7_lungs_images:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """The study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Lungs by how many X-rays without COVID-19 there are to learn from, Zhang",
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
            "The paper's accuracy is Keras's, at threshold 0.5; IoU, Dice and our other accuracy "
            "are at 0.2, as the paper's IoU and Dice.",
            "Of its training images the paper has accuracies of 0.9697 and 0.9538; ours are in the "
            "runs' reports.",
        ),
        split="validation",
    )
