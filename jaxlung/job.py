"""The whole job of a config: train, evaluate all splits, report; what is done is not done again."""

import json

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import evaluate, system, train, workdir
from jaxlung.data import record, splits_file
from jaxlung.report import page
from jaxlung.tasks import task as task_lib

HEADLINES = ("mse", "mae", "dice", "iou", "dice_stored", "f1_macro", "iou_macro", "iou_micro")


def run(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Trains, evaluates and reports into `path`, from wherever an earlier call got to.

    Raises:
        ValueError, OSError: bad config, data or workdir; see `train.train`.
    """
    workdir.open_for(config, path)
    report = path / "report.html"
    if report.exists():
        logging.info("this run is finished: %s", report)
        return
    splits = system.open_splits(config)
    splits_file.write(path / "splits.csv", splits)
    require_foreground(splits["train"], system.make_task(config))
    if not train.train(config, path, splits):
        return
    missing = [name for name in evaluate.SPLITS if not (path / f"summary_{name}.json").exists()]
    evaluate.evaluate(config, path, splits, missing)
    page.build(path)
    log_scores(path, "test")
    logging.info("report: %s", report)


def require_foreground(source: record.Source, task: task_lib.Task) -> None:
    """Raises ValueError if no mask of a split has any pixel of what the task looks for."""
    masks = (source[index].mask for index in range(len(source)))  # Most often the first has some.
    if not any((mask & task.needs).any() for mask in masks):
        raise ValueError(
            f"data: none of the {len(source)} training masks has a pixel of "
            f"{' or '.join(task.levels[1:])}."
        )


def run_evaluate(path: epath.Path, split: str) -> None:
    """Scores one split of a trained run anew, and makes its report again.

    Raises:
        ValueError: an unknown split, or no run there.
    """
    if split not in evaluate.SPLITS:
        raise ValueError(f"--split: got {split!r}, want one of {', '.join(evaluate.SPLITS)}.")
    config = workdir.load_config(path)
    evaluate.evaluate(config, path, system.open_splits(config), [split])
    page.build(path)
    log_scores(path, split)


def log_scores(path: epath.Path, split: str) -> None:
    """Logs the split's main scores, and those of the baselines, a line each."""
    summary = json.loads((path / f"summary_{split}.json").read_text())
    rows = {"network": summary["scores"]}
    rows |= {name: baseline["scores"] for name, baseline in summary["baselines"].items()}
    for name, scores in rows.items():
        shown = [f"{key} {scores[key]:.4f}" for key in HEADLINES if key in scores]
        logging.info("%s, %d images, %s: %s", split, summary["num_images"], name, ", ".join(shown))
