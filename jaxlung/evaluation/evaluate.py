"""Checkpoint and split to scores: a CSV row per image, a summary, and panels for the report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import run_files
from jaxlung.data import record
from jaxlung.data.feed import order, pipeline
from jaxlung.data.transforms import resize
from jaxlung.evaluation import baselines, hu_baseline, panels, volume_scores
from jaxlung.evaluation import scores as scores_lib
from jaxlung.host import files, progress
from jaxlung.metrics import overlap, roc
from jaxlung.parallel import distributed
from jaxlung.training import checkpoint, train_step, trained
from jaxlung.training import system as system_lib
from jaxlung.training.inference import images as image_inference

Judged = tuple[str, scores_lib.SplitScores, dict[str, dict[str, Any]]]


def evaluate(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
    *,
    keep: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores the selected checkpoint on splits.

    Writes `scores_<split>.csv` and `summary_<split>.json` for each; of the test split also
    `panels_test.npz`, or, of a yes or no, `seen_test.npz`; or, of volumes, `planes_test.npz` and
    `predictions/<case>.nii.gz`.

    Args:
        config: the run.
        workdir: holds `checkpoints/`.
        splits: by name; the baselines are fitted to "train".
        names: which of them to score.
        keep: leave out the splits that were scored with the same weights before.

    Returns:
        The summaries by split, as written now.

    Raises:
        ValueError: an empty split, or no good checkpoint.
    """
    system = system_lib.make_system(config)
    state = checkpoint.load_selected(workdir, config.selection, system.abstract_state())
    weights = checkpoint.digest_weights(state)
    if keep:
        missing = [name for name in names if scored_weights(workdir, name) != weights]
        names = distributed.tell_all(missing)
    if not names:
        return {}
    if system.task.threshold == 0:
        threshold = choose_threshold(system, state, splits["validation"])
        system = system_lib.make_system(trained.with_threshold(config, threshold))
    summaries = {}
    judge = judge_volumes if system.is_volumetric else judge_images
    for name, scores, baseline_scores in judge(system, state, splits, names, workdir):
        summary = {
            "split": name,
            "step": int(state.step),
            "weights_digest": weights,
            "task": system.task.name,
            "levels": list(system.task.levels),
            **scores_lib.summarise(system.task, scores),
            "baselines": baseline_scores,
            "paper": config.paper[name].to_dict(),
        }
        summaries[name] = summary
        files.write_text(workdir / f"scores_{name}.csv", scores_lib.to_csv(system.task, scores))
        # Last: a summary says that the split is done.
        text = json.dumps(summary, indent=2) + "\n"
        files.write_text(workdir / f"summary_{name}.json", text)
    return summaries


def judge_images(
    system: system_lib.System,
    state: train_step.TrainState,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
    workdir: epath.Path,
) -> Iterator[Judged]:
    """Name, scores and baselines' scores of one split after the other."""
    chosen = fit_baselines(system, splits["train"]) if system.task.is_map else {}
    for name in names:
        feed = pipeline.open_feed(splits[name], system.settings, system.shardings, name)
        everything = order.in_turn(feed.num_examples)
        outputs = image_inference.predict(system, state, feed, everything, feed.num_examples)
        outputs = progress.report(outputs, f"evaluating {name}", "images", feed.num_examples)
        scores = scores_lib.collect(system.task, outputs, splits[name], system.settings.resize)
        if name == "test" and system.task.is_map:
            ranks = system.task.image_scores(scores.confusions)[system.task.rank_by]
            image_ids = scores.ids["image_id"]
            panels.write(workdir / "panels_test.npz", system, state, feed, image_ids, ranks)
        if name == "test" and not system.task.is_map:
            is_positive = scores_lib.is_positive(scores)
            panels.write_seen(workdir / "seen_test.npz", system, splits[name], is_positive)
        yield name, scores, score_baselines(system, chosen, splits[name], name)


def judge_volumes(
    system: system_lib.System,
    state: train_step.TrainState,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
    workdir: epath.Path,
) -> Iterator[Judged]:
    """The same, of volumes."""
    band = hu_baseline.fit(hu_baseline.voxels(system, splits["train"]))
    for name in names:
        keep_in = workdir if name == "test" else None
        scores = volume_scores.score_split(system, state, splits[name], name, keep_in)
        yield name, scores, hu_baseline.score(system, band, splits[name])


def choose_threshold(
    system: system_lib.System, state: train_step.TrainState, source: record.Source
) -> float:
    """The threshold that does best on the validation split (Youden's J); 0.5 without both classes.

    Of tasks without maps only.
    """
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    everything = order.in_turn(feed.num_examples)
    outputs = image_inference.predict(system, state, feed, everything, feed.num_examples)
    probs, levels = zip(
        *((o["probs"].item(), o["levels"].item() > 0) for o in outputs), strict=True
    )
    if all(levels) or not any(levels):
        logging.warning("validation has one class only: the threshold is 0.5")
        return 0.5
    threshold = to_float32(roc.best_threshold(np.array(levels), np.array(probs)))
    logging.info("threshold %.4g does best on the validation split", threshold)
    return threshold


def to_float32(threshold: float) -> float:
    """The next lower float32, as a device compares: rounded up, it could be a probability itself.

    Never 0, which would choose again, nor 1, which is no threshold: their neighbours are.
    """
    zero, one = np.float32(0), np.float32(1)
    rounded = np.float32(threshold)
    if float(rounded) > threshold:  # As float32 the two are equal.
        rounded = np.nextafter(rounded, zero)
    return float(np.clip(rounded, np.nextafter(zero, one), np.nextafter(one, zero)))


def scored_weights(workdir: epath.Path, split: str) -> str:
    """Returns the digest of the weights that a split was scored with; "" if not known."""
    try:
        summary = run_files.load_summary(workdir, split)
    except ValueError as error:
        logging.warning("%s", error)
        return ""
    return summary.weights_digest if summary else ""


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
    people = []
    confusions: dict[str, list[np.ndarray]] = {key: [] for key in chosen}
    stored: dict[str, list[np.ndarray]] = {key: [] for key in chosen}
    for image, levels, item in fitted(system, source, f"baselines on {name}") if chosen else ():
        people.append(item.patient_id)
        for key, baseline in chosen.items():
            preds = baseline.predict(image)
            confusions[key].append(overlap.confusion_of_one(levels, preds, len(task.levels)))
            # Labels, not brightness: a level of its own would appear where two others meet.
            shares = resize.unfit(one_hot[preds], *item.image.shape, how)
            own = task.true_levels(item.mask, item.label)
            stored[key].append(
                overlap.confusion_of_one(own, shares.argmax(axis=-1), len(task.levels))
            )
    return {
        key: {
            "description": baseline.description,
            **scores_lib.score_confusions(
                task, np.array(confusions[key]), np.array(stored[key]), np.array(people)
            ),
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
        yield image, system.task.true_levels(mask, item.label), item
