"""The whole job of a config: train, evaluate all splits, report; what is done is not done again."""

import json

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import evaluate, system, train, workdir
from jaxlung.data import splits_file
from jaxlung.report import page


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
    if not train.train(config, path, splits):
        return
    missing = [name for name in evaluate.SPLITS if not (path / f"summary_{name}.json").exists()]
    evaluate.evaluate(config, path, splits, missing)
    page.build(path)
    log_scores(path, "test")
    logging.info("report: %s", report)


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
    """Logs the scores of a split, the paper's and the baselines' beside them."""
    summary = json.loads((path / f"summary_{split}.json").read_text())
    logging.info("%s: %d images, step %d", split, summary["num_images"], summary["step"])
    for name, value in summary["scores"].items():
        logging.info("  %-24s %.4f", name, value)
