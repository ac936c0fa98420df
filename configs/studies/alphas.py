"""Nguyen Xuan Tung's loss, alpha BCE + (1 - alpha) IoU, for several alphas; the paper names none.

Alpha 0 is the IoU loss alone, 1 the cross-entropy alone. Seven runs of 100 epochs.

    jaxlung study alphas
    jaxlung study alphas:phantom    # generated X-rays
"""

from jaxlung.config import config_arg
from jaxlung.study import study

ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "", "phantom" or "quick"."""
    config_arg.parse_arg(arg, phantom=False, quick=False)
    end = f",{arg}" if arg else ""
    mixed = [
        study.Run(
            f"alpha_{alpha}",
            f"alpha {alpha}",
            f"covidqu_residual:loss=bce_iou{end}",
            {"task.alpha": alpha},
        )
        for alpha in ALPHAS
    ]
    return study.Study(
        title="Share of the cross-entropy in BCE + IoU, infection masks, Nguyen Xuan Tung",
        runs=(
            study.Run("alpha_0", "alpha 0: IoU", f"covidqu_residual:loss=iou{end}"),
            *mixed,
            study.Run("alpha_1", "alpha 1: BCE", f"covidqu_residual:loss=bce{end}"),
        ),
        columns=("dice", "iou", "mae", "precision", "sensitivity", "iou_pooled"),
        notes=("The paper names no alpha; `covidqu_residual:loss=bce_iou` uses 0.5.",),
    )
