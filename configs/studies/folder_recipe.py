"""A recipe for your own images: learning rate, loss, schedule and rotations of `folder`.

Successive halving: 16 runs of 4 epochs, 5 of them go on to 12 epochs, and the best one to 30. That
is the work of four whole runs.

    jaxlung study folder_recipe --config.data.root=MY_IMAGES
    jaxlung study folder_recipe:runs=32,seed=1 --config.data.root=MY_IMAGES
    jaxlung study folder_recipe:target=infection,network=residual_unet --config.data.root=A,B
"""

from scipy import stats

from jaxlung.config import config_arg
from jaxlung.study import study, sweep


def get_study(arg: str = "") -> study.Study:
    """Returns the study; `arg` is "" or some of "runs=N", "seed=N", "target=...", ..."""
    variant = config_arg.parse_arg(arg, runs=0, seed=0, target="lung", network="unet", quick=False)
    quick = ",quick" if variant.quick else ""
    made = sweep.Sweep(
        fields={
            "optimizer.learning_rate": stats.loguniform(1e-4, 1e-2),
            "task.loss": ("bce", "dice", "bce_dice"),
            "optimizer.schedule": ("constant", "cosine"),
            "augment.rotation_degrees": (5.0, 15.0),
        },
        runs=variant.runs or (4 if variant.quick else 16),
        seed=variant.seed,  # of the random values
        reduction=3,  # at each stop, one run in three goes on; 0: all train to the end
        first_epochs=1 if variant.quick else 4,  # before the first stop; later ones at 12, 36, ...
    )
    run = study.Run(
        variant.network,
        variant.network,
        f"folder:target={variant.target},network={variant.network}{quick}",
        # Losses of different loss functions can't be compared, so the score decides.
        {"selection": "best_score"},
    )
    return study.Study(
        title=f"A recipe for {variant.target} masks of one's own images",
        runs=study.vary(run, made),
        columns=("dice", "iou", "precision", "sensitivity", "hd95"),
        sweep=made,
    )
