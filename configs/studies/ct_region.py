"""Lin and Huang's Table 5: infection inside the lung mask only, and on the whole CT.

Two runs of 200 epochs for each seed. Each seed has a split of its own.

    jaxlung study ct_region
    jaxlung study ct_region:seeds=3
    jaxlung study ct_region:phantom    # generated CTs
"""

from jaxlung.config import config_arg
from jaxlung.study import study


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "" or some of "phantom", "quick", "seeds=N" with commas."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False, seeds=1)
    end = "".join(f",{name}" for name in ("phantom", "quick") if getattr(variant, name))
    runs = (
        study.Run("lung", "lungs only", f"covid19_ct:region=lung{end}"),
        study.Run("full", "whole CT", f"covid19_ct:region=full{end}"),
    )
    names = ("dice", "iou", "sensitivity", "precision")
    lung, full = (0.7627, 0.6237, 0.6938, 0.8563), (0.5074, 0.3955, 0.7328, 0.5247)
    return study.Study(
        title="Inside the lungs and on the whole CT, infection, Lin and Huang, Table 5",
        runs=study.repeat(runs, variant.seeds),
        columns=(*names, "hd95", "nsd"),
        paper=(
            study.PaperRow("lungs only", dict(zip(names, lung, strict=True))),
            study.PaperRow("whole CT", dict(zip(names, full, strict=True))),
        ),
        notes=(
            "Lungs only: the CT is multiplied by the annotated lung mask, and only voxels in it "
            "are foreground. So this run is told where the lungs are, in testing too, as in the "
            "paper.",
            "The paper trains once and tests on 4 volumes, which it doesn't name.",
        ),
    )
