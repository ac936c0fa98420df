"""Lin and Huang's Table 2: FV blocks with squeeze and excitation, or with contrast enhancement.

Without PASPP and deep supervision. Two runs of 200 epochs for each seed. Each seed has a split of
its own.

    jaxlung study ct_attention
    jaxlung study ct_attention:seeds=3
    jaxlung study ct_attention:phantom    # generated CTs
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "" or some of "phantom", "quick", "seeds=N" with commas."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False, seeds=1)
    end = "".join(f",{name}" for name in ("phantom", "quick") if getattr(variant, name))
    plain = f"paspp=false,deep_supervision=false{end}"
    runs = (
        study.Run("se", "U-Net + FV, SE", f"covid19_ct:attention=se,{plain}"),
        study.Run("ce", "U-Net + FV, CE", f"covid19_ct:attention=ce,{plain}"),
    )
    names = ("dice", "iou", "sensitivity", "precision")
    return study.Study(
        title="Attention in the FV blocks, infection on CT, Lin and Huang, Table 2",
        runs=study.repeat(runs, variant.seeds),
        columns=(*names, "hd95", "nsd"),
        paper=(
            study.PaperRow("SE", dict(zip(names, (0.7229, 0.5731, 0.7009, 0.7727), strict=True))),
            study.PaperRow("CE", dict(zip(names, (0.7203, 0.5722, 0.7002, 0.7578), strict=True))),
        ),
        notes=("The paper trains once and tests on 4 volumes, which it doesn't name.",),
    )
