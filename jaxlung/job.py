"""The whole job of a config: train, evaluate all splits, report; what is done is not done again."""

import concurrent.futures
import json
from collections.abc import Mapping
from typing import Any

import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung import (
    checkpoint,
    distributed,
    evaluate,
    files,
    lung_masks,
    model_card,
    progress,
    system,
    train,
    transfer,
    workdir,
)
from jaxlung.data import record, splits_file
from jaxlung.model_card import limits
from jaxlung.report import page
from jaxlung.tasks import task as task_lib

FINISHED = "finished.txt"  # Written last; holds the step that was scored.
HEADLINES = (
    "mse",
    "mae",
    "dice",
    "iou",
    "mean_iou",
    "dice_stored",
    "hd95",
    "f1_macro",
    "iou_macro",
    "iou_micro",
    "auc",
    "accuracy",
    "sensitivity",
    "specificity",
)


def run(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Trains, evaluates and reports into `path`, from wherever an earlier call got to.

    Raises:
        ValueError, OSError: bad config, data or workdir; see `train.train`.
    """
    # Bad settings are told before data are read.
    state = system.make_system(config).abstract_state()
    require_both_classes(config)
    if config.init_from and not workdir.is_trained(path):
        transfer.open_network(config.init_from, state)
    if config.task.get("lungs") == "predicted":
        lung_masks.require_run(config.lungs_run, path, config.data.phantom_images)
    workdir.open_for(config, path)
    with workdir.lock(path):
        _run(config, path)


def _run(config: mlc.ConfigDict, path: epath.Path) -> None:
    report, finished = path / "report.html", path / FINISHED
    if distributed.tell_all(report.exists() and finished.exists()):
        logging.info("this run is finished: %s", report)
        return
    splits = open_splits(config, path)
    sizes = ", ".join(f"{name} {len(source)}" for name, source in splits.items())
    task = system.make_task(config)
    logging.info("%s: %s", task.records, sizes)
    if not workdir.is_trained(path):
        check_records(splits, task, config.data.num_threads)
    if not train.train(config, path, splits):
        return
    step = checkpoint.selected_step(config.selection, path)
    missing = [name for name in evaluate.SPLITS if evaluate.scored_step(path, name) != step]
    evaluate.evaluate(config, path, splits, distributed.tell_all(missing))
    if distributed.is_main():
        log_scores(path, "test", task.records)
        write_report(path)
        files.write_text(finished, f"{step}\n")


def require_both_classes(config: mlc.ConfigDict) -> None:
    """Raises ValueError if a diagnosis would be validated on patients with COVID-19 only."""
    if config.task_name == "diagnosis" and config.data.to_dict().get("protocol") == "paper":
        raise ValueError(
            "data.protocol: got 'paper', whose validation images all have COVID-19, with "
            "task_name='diagnosis'; want halves, or paper_both, which validates on the held-out "
            "images of both classes, as the paper's diagnosis."
        )


def run_evaluate(config: mlc.ConfigDict | None, path: epath.Path, split: str) -> None:
    """Scores one split of a trained run anew, and makes its report again.

    Args:
        config: what the run was made with, but for `workdir.FREE_FIELDS`; None reads it there.
        path: the run's folder.
        split: "train", "validation" or "test".

    Raises:
        ValueError: an unknown split, no run there, or another config's.
    """
    if split not in evaluate.SPLITS:
        raise ValueError(f"--split: got {split!r}, want one of {', '.join(evaluate.SPLITS)}.")
    stored = workdir.load_config(path)
    if config is None:
        config = stored
    else:
        workdir.open_for(config, path)
    with workdir.lock(path):
        evaluate.evaluate(config, path, open_splits(config, path), [split])
        if distributed.is_main():
            log_scores(path, split, system.make_task(config).records)
            write_report(path)


def write_report(path: epath.Path) -> None:
    """Writes `report.html` and `MODEL_CARD.md` from what a run's folder holds.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    page.build(path)
    model_card.write(path)
    logging.info("report: %s, model card: %s", path / "report.html", path / model_card.FILE)


def open_splits(config: mlc.ConfigDict, path: epath.Path) -> Mapping[str, record.Source]:
    """Opens the data; once something was trained, they must be those that `splits.csv` names."""
    with distributed.main_first("opening the data"):
        splits = system.open_splits(config)
    warn_of_shared(splits, config)
    if workdir.is_trained(path):
        splits_file.require_same(path / "splits.csv", splits)
    else:
        splits_file.write(path / "splits.csv", splits)
    if config.task.get("lungs") == "predicted":
        splits = lung_masks.replace(splits, config.lungs_run, path)
    return splits


def warn_of_shared(splits: Mapping[str, record.Source], config: mlc.ConfigDict) -> None:
    """Says so if images of the test split have a say in what is tested."""
    validation, test = ({who for who, _ in splits[x].people()} for x in ("validation", "test"))
    chosen = limits.list_chosen(config.to_dict())
    if chosen and validation & test:
        logging.warning(
            "%d of %d test images are validation images too, which choose %s: test scores are too "
            "good",
            len(validation & test),
            len(test),
            ", ".join(chosen),
        )


def check_records(
    splits: Mapping[str, record.Source], task: task_lib.Task, num_threads: int
) -> None:
    """Decodes every image and mask once, so that a bad file is told now and not after training.

    Raises:
        ValueError: a file is damaged (named), or no training image has what the task looks for.
    """

    def has_any(item: record.Record) -> bool:
        return bool(task.true_levels(item.mask[None], np.array([item.label])).any())

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for name, source in splits.items():
            found = pool.map(
                lambda index, source=source: has_any(source[index]), range(len(source))
            )
            found = list(progress.report(found, f"checking {name}", task.records, len(source)))
            if name == "train" and not any(found):
                raise ValueError(
                    f"data: none of the {len(found)} training {task.records} has "
                    f"{' or '.join(task.levels[1:])}."
                )


def log_scores(path: epath.Path, split: str, records: str) -> None:
    """Logs the split's main scores, and those of the baselines, a line each."""
    summary = json.loads((path / f"summary_{split}.json").read_text())
    count = summary["num_images"]
    for name, part in ({"network": summary} | summary["baselines"]).items():
        shown = [
            spell_score(key, part, count)
            for key in HEADLINES
            if part["scores"].get(key) is not None
        ]
        logging.info("%s, %d %s, %s: %s", split, count, records, name, ", ".join(shown))


def spell_score(key: str, part: Mapping[str, Any], total: int) -> str:
    """ "hd95 3.2100 (n = 38)" where 2 of 40 have none; part of a summary, with "undefined"."""
    undefined = part.get("undefined", {}).get(key, 0)
    number = f" (n = {total - undefined:,})" if undefined else ""
    return f"{key} {part['scores'][key]:.4f}{number}"
