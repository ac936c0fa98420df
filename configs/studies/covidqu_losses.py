"""Nguyen Xuan Tung, Tables 1 and 2, Figures 1 to 3: two losses for infection masks on COVID-QU-Ex.

Cross-entropy is compared with its sum with an IoU loss, on a residual U-Net. Two runs of 100
epochs.

    jaxlung study covidqu_losses
    jaxlung study covidqu_losses:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    return study.Study(
        title="Cross-entropy, and its sum with an IoU loss, infection masks, Nguyen Xuan Tung",
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
            "The paper's numbers can't be compared with ours directly. It gives no scale for "
            "its MAE (our outputs are in [0, 1], so ours is at most 1), and no averaging or "
            "threshold for its IoU.",
            "The text of the paper has no numbers for its Table 1, the losses. It says that BCE "
            "alone fits better.",
        ),
        images=(181, 182, 184),  # Figures 1 to 3; the paper doesn't say how images are ordered.
    )
