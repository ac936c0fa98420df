"""Runs the whole job of a config: train, evaluate all splits, report. Skips finished parts."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung.config import config_file, run_files, workdir
from jaxlung.data import record
from jaxlung.data.sources import datasets
from jaxlung.data.splits import splits_file
from jaxlung.evaluation import evaluate, lung_masks
from jaxlung.host import files, progress_file
from jaxlung.parallel import distributed, place
from jaxlung.report import limits, model_card, page
from jaxlung.tasks import words
from jaxlung.training import checkpoint, record_check, transfer
from jaxlung.training import loop as train
from jaxlung.training import system as system_lib

FINISHED = run_files.FINISHED


def run(
    config: mlc.ConfigDict,
    path: epath.Path,
    *,
    until_epoch: int | None = None,
    is_locked: bool = False,
) -> bool:
    """Trains, evaluates and reports into `path`, resuming where an earlier call stopped.

    Args:
        config: config of the run.
        path: folder of the run.
        until_epoch: only train, and no further than so many epochs; None for the whole job.
        is_locked: this process holds the folder's lock already.

    Returns:
        True if the run is done, or `until_epoch` is reached; False if a signal stopped it, after
        saving.

    Raises:
        ValueError: config, data or folder can't be used; see also `train.train`.
        OSError: a file can't be read or written.
    """
    # Bad settings are reported before data are read.
    system = system_lib.make_system(config)
    state = system.abstract_state()  # Raises for an image size that the network can't take.
    require_both_classes(config)
    if config.init_from and not workdir.is_trained(path):
        transfer.require_fits(config.init_from, state)
    if config.task.get("lungs") == "predicted":
        lung_masks.require_run(config.lungs_run, path, config.data)
    workdir.open_for(config, path)
    with contextlib.nullcontext() if is_locked else workdir.lock(path):
        return _run(config, path, system, until_epoch)


def _run(
    config: mlc.ConfigDict, path: epath.Path, system: system_lib.System, until_epoch: int | None
) -> bool:
    """Does what is left of a run, and says in `progress.json` how far it is."""
    if distributed.tell_all(is_done(config, path)):
        logging.info("this run is finished: %s", path / "report.html")
        return True
    if distributed.is_main():
        (path / FINISHED).unlink(missing_ok=True)
    with telling(path):
        return _train_and_report(config, path, system, until_epoch)


def telling(path: epath.Path) -> contextlib.AbstractContextManager[None]:
    """Writes the run's `progress.json` while the body runs; see `progress_file.tell`."""
    if not distributed.is_main():
        return contextlib.nullcontext()
    where = place.describe(os.environ)
    return progress_file.writing(path / progress_file.FILE, phase="reading data", where=where)


def _train_and_report(
    config: mlc.ConfigDict, path: epath.Path, system: system_lib.System, until_epoch: int | None
) -> bool:
    """Returns True; False if a signal stopped training."""
    splits = open_splits(config, path)
    sizes = ", ".join(f"{name} {len(source)}" for name, source in splits.items())
    task = system.task
    logging.info("%s: %s", task.records, sizes)
    if not workdir.is_trained(path):
        may_lack = datasets.may_lack(config.data.to_dict(), task.needs if task.is_map else 0)
        record_check.check(splits, task, config.data.num_threads, may_lack)
    is_complete = train.train(config, path, splits, system=system, until_epoch=until_epoch)
    if until_epoch is not None or not is_complete:
        progress_file.tell(phase="paused" if is_complete else "stopped")
        return is_complete
    progress_file.tell(phase="evaluating", images_per_s=None, seconds_left=None)
    evaluate.evaluate(config, path, splits, run_files.SPLITS, system=system, keep=True)
    if distributed.is_main():
        log_scores(path, "test", task.records)
        progress_file.tell(phase="reporting")
        write_report(path)
        files.write_text(path / FINISHED, f"{selected(path, config.selection)}\n")
    progress_file.tell(phase="finished")
    return True


def is_done(config: mlc.ConfigDict, path: epath.Path) -> bool:
    """Returns True if the run in `path` is trained, scored as its config says, and reported."""
    return (
        (path / "report.html").exists()
        and is_finished(path, config.selection)
        and all(evaluate.is_calibrated_as(path, x, config.calibrate) for x in run_files.SPLITS)
    )


def is_finished(path: epath.Path, selection: str) -> bool:
    """Returns True if `finished.txt` names the checkpoint that `selection` selects.

    Earlier versions wrote only its step.
    """
    try:
        words = (path / FINISHED).read_text().split()
    except (OSError, ValueError):
        return False
    return len(words) in (1, 2) and selected(path, selection).split()[: len(words)] == words


def selected(path: epath.Path, selection: str) -> str:
    """Returns step and weights digest of the selected checkpoint, as in `finished.txt`."""
    step = checkpoint.selected_step(selection, path)
    return f"{step} {checkpoint.selected_weights(selection, path)}"


def require_both_classes(config: mlc.ConfigDict) -> None:
    """Raises ValueError if a diagnosis would be validated only on patients with COVID-19."""
    role = system_lib.make_task(config).role
    if role == "diagnosis" and config.data.to_dict().get("protocol") == "paper":
        raise ValueError(
            "data.protocol: got 'paper', whose validation images all have COVID-19, with "
            f"task_name={config.task_name!r}; want halves, or paper_both, which validates on the "
            "held-out images of both classes, as the paper's diagnosis."
        )


def run_evaluate(
    config: mlc.ConfigDict | None, path: epath.Path, split: str, overrides: Sequence[str] = ()
) -> None:
    """Scores one split of a trained run again, and rewrites its report.

    Args:
        config: config of the run, which may differ in `workdir.FREE_FIELDS`; None reads the one in
            `path`.
        path: folder of the run.
        split: "train", "validation" or "test".
        overrides: changes to the config in `path`, "--config.FIELD=VALUE".

    Raises:
        ValueError: the split is unknown, no run is there, or it has another config.
        FileNotFoundError: the data that the config in `path` names are not there. They are not
            prepared or downloaded, as the folder may be somebody else's.
    """
    if split not in run_files.SPLITS:
        raise ValueError(f"--split: got {split!r}, want one of {', '.join(run_files.SPLITS)}.")
    told = config is not None or names_data_dir(overrides)
    stored = workdir.load_config(path)
    with workdir.naming_config(path) if config is None else contextlib.nullcontext():
        config = config or stored
        config_file.set_overrides(config, overrides)
        system = system_lib.make_system(config)
    if told or overrides:
        workdir.open_for(config, path)
    with workdir.lock(path):
        with workdir.naming_config(path, values=False):
            splits = open_splits(config, path, may_prepare=told)
        evaluate.evaluate(config, path, splits, [split], system=system)
        if distributed.is_main():
            log_scores(path, split, system.task.records)
            write_report(path)


def names_data_dir(overrides: Sequence[str]) -> bool:
    """Returns True if one of "--config.FIELD=VALUE" names the folder of prepared data."""
    return any(x.lstrip("-").startswith("config.data.data_dir=") for x in overrides)


def write_report(path: epath.Path) -> None:
    """Writes `report.html` and `MODEL_CARD.md` from the files of a run.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    warn_of_stale(run_files.load_summaries(path))
    with workdir.naming_config(path, values=False):  # Other files are checked when read.
        page.build(path)
        model_card.write(path)
    logging.info("report: %s, model card: %s", path / "report.html", path / model_card.FILE)


def warn_of_stale(summaries: Sequence[run_files.Summary]) -> None:
    """Warns of splits scored with other weights or another temperature than the last."""
    newest = summaries[-1]
    for summary in summaries[:-1]:
        known = summary.weights_digest and newest.weights_digest
        if known and summary.weights_digest != newest.weights_digest:
            logging.warning(
                "summary_%s.json (step %d) is of other weights than summary_%s.json (step %d); "
                "score both with jaxlung evaluate --workdir=... --split=...",
                summary.split,
                summary.step,
                newest.split,
                newest.step,
            )
        elif summary.temperature != newest.temperature:
            logging.warning(
                "summary_%s.json has temperature %s and summary_%s.json %s; score both with "
                "jaxlung evaluate --workdir=... --split=...",
                summary.split,
                summary.temperature or "none",
                newest.split,
                newest.temperature or "none",
            )


def open_splits(
    config: mlc.ConfigDict, path: epath.Path, *, may_prepare: bool = True
) -> Mapping[str, record.Source]:
    """Opens the splits of a run's dataset, with the lungs that its config asks for.

    The first call writes `splits.csv`; once there is a checkpoint, the splits must match it.

    Args:
        config: config of the run.
        path: folder of the run.
        may_prepare: prepare, generate or download data that are not there.

    Raises:
        ValueError: the data can't be used, or differ from those in `splits.csv`.
    """
    with distributed.main_first("opening the data"):
        splits = system_lib.open_splits(config, may_prepare=may_prepare)
    warn_of_shared(splits, config)
    if workdir.is_trained(path):
        splits_file.require_same(path / "splits.csv", splits)
    else:
        splits_file.write(path / "splits.csv", splits)
    if config.task.get("lungs") == "predicted":
        splits = lung_masks.replace(splits, config.lungs_run, path)
    return splits


def warn_of_shared(splits: Mapping[str, record.Source], config: mlc.ConfigDict) -> None:
    """Warns if test images are also used to choose the checkpoint or the threshold."""
    validation, test = ({who for who, _ in splits[x].people()} for x in ("validation", "test"))
    chosen = limits.list_chosen(config.to_dict())
    if chosen and validation & test:
        logging.warning(
            "%d of %d test images are also validation images, which choose %s: test scores are too "
            "good",
            len(validation & test),
            len(test),
            ", ".join(chosen),
        )


def log_scores(path: epath.Path, split: str, records: str) -> None:
    """Logs the main scores of the network and of each baseline on a split, a line each."""
    summary = run_files.load_summary(path, split)
    assert summary is not None  # Evaluation has just written it.
    count = summary.num_images
    network = {"scores": summary.scores, "undefined": summary.undefined}
    for name, part in ({"network": network} | summary.baselines).items():
        shown = [
            spell_score(key, part, count)
            for key in words.find(summary.task).logged
            if part["scores"].get(key) is not None
        ]
        logging.info("%s, %d %s, %s: %s", split, count, records, name, ", ".join(shown))


def spell_score(key: str, part: Mapping[str, Any], total: int) -> str:
    """Returns one score in words: "hd95 3.2100 (n = 38)" if 2 of 40 images have none."""
    undefined = part.get("undefined", {}).get(key, 0)
    number = f" (n = {total - undefined:,})" if undefined else ""
    return f"{key} {part['scores'][key]:.4f}{number}"
