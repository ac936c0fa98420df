"""Nguyen Xuan Tung: what the loss does to a residual U-Net for infection masks on COVID-QU-Ex.

Tables 1 and 2 and Figures 1 to 3 of the paper: cross-entropy against its sum with an IoU loss.
Two runs of 100 epochs.

    python -m jaxlung.main --mode=study --study=covidqu_losses
    python -m jaxlung.main --mode=study --study=covidqu_losses:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """The study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Cross-entropy against cross-entropy and IoU, infection masks, Nguyen Xuan Tung",
        runs=(
            study.Run("bce", "BCE", f"covidqu_residual:loss=bce{end}"),
            study.Run("bce_iou", "BCE + IoU", f"covidqu_residual:loss=bce_iou{end}"),
        ),
        columns=("mae", "iou", "dice", "precision", "sensitivity", "iou_pooled"),
        paper=(  # Table 2
            study.PaperRow("BCE", {"mae": 16.321, "iou": 0.138}, in_chart=False),
            study.PaperRow("BCE + IoU", {"mae": 102168.546, "iou": 0.138}, in_chart=False),
        ),
        notes=(
            "The paper's numbers can't be compared with ours as they are: it doesn't say on which "
            "scale its MAE is (ours is of outputs in [0, 1], so at most 1), nor how its IoU is "
            "averaged and at which threshold.",
            "Of the paper's Table 1, the losses, there are no numbers in its text; it says that "
            "BCE alone fits better.",
        ),
        images=(181, 182, 184),  # Figures 1 to 3; the paper doesn't name its order.
    )
