"""A sweep whose runs are not trained: each has the scores that its learning rate is given."""

from jaxlung.study import study, study_file, sweep
from jaxlung.training import metrics_log

FIELD = "optimizer.learning_rate"
CURVES = {  # learning rate -> validation score after each epoch
    1e-4: (0.10, 0.60, 0.80, 0.99),  # It would win, but begins slowly.
    3e-4: (0.50, 0.60, 0.70, 0.80),
    1e-3: (0.45, 0.70, 0.80, 0.90),
    3e-3: (0.20, 0.30, 0.20, 0.10),
}
SWEEP = sweep.Sweep(
    fields={FIELD: tuple(CURVES), "task.alpha": (0.5,)}, reduction=2, first_epochs=1
)
OVERRIDES = {"epochs": 4, "selection": "best_score"}


def make_study(made=SWEEP, **changes):
    run = study.Run("unet", "U-Net", "covidqu_residual:quick", OVERRIDES | changes)
    return study.Study("A made-up sweep", study.vary(run, made), ("mean_iou",), sweep=made)


def make_configs(path, made=SWEEP, **changes):
    return study_file.make_configs(make_study(made, **changes), path)


def name_of(rate):
    return f"unet-{rate}-0.5"


def train(config, path, until_epoch):
    """Writes what a training of the run would have written until an epoch, or the end."""
    names = metrics_log.columns("mean_iou")
    scores = CURVES[config.optimizer.learning_rate][:until_epoch]
    rows = [
        dict.fromkeys(names, 0.5) | {"step": epoch, "epoch": epoch, "val_mean_iou": score}
        for epoch, score in enumerate(scores, 1)
    ]
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.csv").write_text(metrics_log.to_csv(rows, names))
