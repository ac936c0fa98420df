"""Checkpoint and split to scores: a CSV row per image, a summary, and panels for the report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung import baselines, checkpoint, files, inference, panels, progress, train_step
from jaxlung import scores as scores_lib
from jaxlung import system as system_lib
from jaxlung.data import order, pipeline, record, resize
from jaxlung.metrics import overlap

SPLITS = ("train", "validation", "test")


def evaluate(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Scores the selected checkpoint on splits.

    Writes `scores_<split>.csv` and `summary_<split>.json` for each, and `panels_test.npz`.

    Args:
        config: the run.
        workdir: holds `checkpoints/`.
        splits: by name; the baselines are fitted to "train".
        names: which of them to score.

    Returns:
        The summaries by split, as written.

    Raises:
        ValueError: an empty split, or no good checkpoint.
    """
    system = system_lib.make_system(config)
    state = load_selected(config.selection, workdir, system)
    chosen = fit_baselines(system, splits["train"])
    summaries = {}
    for name in names:
        road = pipeline.open_road(splits[name], system.settings, system.shardings, name)
        everything = order.in_turn(road.num_records)
        outputs = inference.predict(system, state, road, everything, road.num_records)
        outputs = progress.report(outputs, f"evaluating {name}", "images", road.num_records)
        scores = scores_lib.collect(system.task, outputs, splits[name], system.settings.resize)
        summaries[name] = {
            "split": name,
            "num_images": road.num_records,
            "step": int(state.step),
            "task": system.task.name,
            "levels": list(system.task.levels),
            "scores": scores_lib.summarise(system.task, scores, slice(None)),
            "by_group": scores_lib.summarise_groups(system.task, scores),
            "baselines": score_baselines(system, chosen, splits[name], name),
            "paper": config.paper[name].to_dict(),
        }
        files.write_text(workdir / f"scores_{name}.csv", scores_lib.to_csv(system.task, scores))
        if name == "test":
            ranks = system.task.image_scores(scores.confusions)[system.task.rank_by]
            image_ids = scores.ids["image_id"]
            panels.write(workdir / "panels_test.npz", system, state, road, image_ids, ranks)
        # Last: a summary says that the split is done.
        text = json.dumps(summaries[name], indent=2) + "\n"
        files.write_text(workdir / f"summary_{name}.json", text)
    return summaries


def load_selected(
    selection: str, workdir: epath.Path, system: system_lib.System
) -> train_step.TrainState:
    """The checkpoint that `selection` names: "last", or "best" on the validation split.

    Raises:
        ValueError: no good checkpoint.
    """
    with checkpoint.open_manager(workdir) as manager:
        like, best_step = system.abstract_state(), manager.best_step()
        if selection == "best" and best_step is not None:
            try:
                return checkpoint.restore(manager, best_step, like)[0]
            except ValueError as error:
                logging.warning("%s; scoring the newest good one in its place", error)
        restored = checkpoint.restore_latest(manager, like)
    if restored is None:
        raise ValueError(f"{workdir}: there is no checkpoint to evaluate; train first.")
    return restored[0]


def selected_step(selection: str, workdir: epath.Path) -> int | None:
    """The step of the checkpoint that `selection` names; None if there is none."""
    with checkpoint.open_manager(workdir) as manager:
        return manager.best_step() if selection == "best" else manager.latest_step()


def scored_step(workdir: epath.Path, split: str) -> int | None:
    """The step that `summary_<split>.json` was made from; None if there is no good one."""
    try:
        return json.loads((workdir / f"summary_{split}.json").read_text())["step"]
    except (OSError, ValueError, KeyError):
        return None


def fit_baselines(system: system_lib.System, source: record.Source) -> dict[str, Any]:
    """The brightness threshold and the mean mask that do best on the training split."""
    pairs = (
        (image, levels) for image, levels, _ in fitted(system, source, "fitting the baselines")
    )
    counts = baselines.count(pairs, len(system.task.levels))
    return {
        "threshold": baselines.fit_threshold(counts.histograms, system.task.levels),
        "mean_mask": baselines.fit_mean_mask(counts.level_counts, system.task.levels),
    }


def score_baselines(
    system: system_lib.System, chosen: dict[str, Any], source: record.Source, name: str
) -> dict[str, dict[str, Any]]:
    """The baselines' scores on a split, at the network's size and at the images' own."""
    task, how = system.task, system.settings.resize
    one_hot = np.eye(len(task.levels), dtype=np.float32)
    confusions: dict[str, list[np.ndarray]] = {key: [] for key in chosen}
    stored: dict[str, list[np.ndarray]] = {key: [] for key in chosen}
    for image, levels, item in fitted(system, source, f"baselines on {name}"):
        for key, baseline in chosen.items():
            preds = baseline.predict(image)
            confusions[key].append(overlap.confusion_of_one(levels, preds, len(task.levels)))
            # Labels, not brightness: a level of its own would appear where two others meet.
            shares = resize.unfit(one_hot[preds], *item.image.shape, how)
            own = task.true_levels(item.mask)
            stored[key].append(
                overlap.confusion_of_one(own, shares.argmax(axis=-1), len(task.levels))
            )
    return {
        key: {
            "description": baseline.description,
            "scores": scores_lib.both_sizes(task, np.array(confusions[key]), np.array(stored[key])),
        }
        for key, baseline in chosen.items()
    }


def fitted(
    system: system_lib.System, source: record.Source, what: str
) -> Iterator[tuple[np.ndarray, np.ndarray, record.Record]]:
    """Image and levels, each [S, S] uint8 at the network's size, with the record itself."""
    settings = system.settings
    for index in progress.report(range(len(source)), what, "images", len(source)):
        item = source[index]
        image, mask = resize.fit(item.image, item.mask, settings.image_size, settings.resize)
        yield image, system.task.true_levels(mask), item
