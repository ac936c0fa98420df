"""Lin and Huang's network in 5-fold cross-validation: each of the 20 volumes is tested once.

The paper tests on one split of 4 volumes and lists each in its Table 4. Five runs of 200 epochs
for each seed. Each seed has folds of its own.

    jaxlung study ct_folds
    jaxlung study ct_folds:seeds=3
    jaxlung study ct_folds:phantom    # generated CTs
"""

from jaxlung.config import config_arg, config_file
from jaxlung.study import study

FOLDS = 5


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "" or some of "phantom", "quick", "seeds=N" with commas."""
    variant = config_arg.parse_arg(arg, phantom=False, quick=False, seeds=1)
    end = "".join(f",{name}" for name in ("phantom", "quick") if getattr(variant, name))
    runs = [
        study.Run(
            f"fold_{fold}",
            f"fold {fold}",
            f"covid19_ct:fold={fold},folds={FOLDS}{end}",
            group="all folds",
        )
        for fold in range(FOLDS)
    ]
    names = ("dice", "iou", "sensitivity", "precision")
    scores = dict(zip(names, (0.7627, 0.6237, 0.6938, 0.8563), strict=True))
    subjects = config_file.load_shipped("covid19_ct").paper.subjects
    return study.Study(
        title="Cross-validation over 5 folds, infection on CT, Lin and Huang",
        runs=study.repeat(runs, variant.seeds),
        columns=(*names, "hd95", "nsd"),
        paper=(
            study.PaperRow("one split", scores),  # Table 3
            *(  # Table 4
                study.PaperRow(
                    f"subject {name}, {' x '.join(map(str, shape))}",
                    dict(dice=dice, sensitivity=sensitivity, iou=iou),
                    in_chart=False,
                )
                for name, shape, dice, sensitivity, iou in subjects
            ),
        ),
        notes=(
            "Folds are split by patient, so both volumes of one patient are in the same fold. The "
            "checkpoint of a fold is chosen on volumes that it doesn't test.",
            "The paper has no cross-validation; its row is of 4 volumes, which it calls A to D. "
            "The report of each fold has the scores of single volumes.",
        ),
    )
