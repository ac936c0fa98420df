"""Lin and Huang's Table 3: what FV blocks, PASPP and deep supervision add to a 3D U-Net.

Four runs of 200 epochs for each seed. Each seed has a split of its own.

    jaxlung study ct_ablation
    jaxlung study ct_ablation:seeds=3
    jaxlung study ct_ablation:phantom    # generated CTs
"""

from jaxlung.config import config_arg
from jaxlung.study import study

ROWS = (  # name, label, attention, PASPP, deep supervision, the paper's scores
    ("unet", "U-Net", "none", "false", "false", (0.7196, 0.5704, 0.6480, 0.8435)),
    ("fv", "+ FV", "se", "false", "false", (0.7229, 0.5731, 0.7009, 0.7727)),
    ("paspp", "+ FV + PASPP", "se", "true", "false", (0.7471, 0.6055, 0.7106, 0.7983)),
    ("full", "+ FV + PASPP + DS", "se", "true", "true", (0.7627, 0.6237, 0.6938, 0.8563)),
)


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "" or some of "phantom", "quick", "seeds=N" with commas."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False, seeds=1)
    end = "".join(f",{name}" for name in ("phantom", "quick") if getattr(variant, name))
    runs, paper = [], []
    names = ("dice", "iou", "sensitivity", "precision")
    for name, label, attention, paspp, deep, scores in ROWS:
        parts = f"attention={attention},paspp={paspp},deep_supervision={deep}"
        runs.append(study.Run(name, label, f"covid19_ct:{parts}{end}"))
        paper.append(study.PaperRow(label, dict(zip(names, scores, strict=True))))
    return study.Study(
        title="Parts of the network, infection on CT, Lin and Huang, Table 3",
        runs=study.repeat(runs, variant.seeds),
        columns=(*names, "hd95", "nsd"),
        paper=tuple(paper),
        notes=(
            "FV blocks are with SE, the better row of Table 2. DS is deep supervision.",
            "The paper trains once and tests on 4 volumes, which it doesn't name.",
        ),
    )
