"""Scores a checkpoint on splits: a CSV row per image, a summary, and panels for the report."""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import run_files
from jaxlung.data import record
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, pipeline
from jaxlung.evaluation import baselines, calibrate, panels, probs_files, score_table, volume_scores
from jaxlung.evaluation import scores as scores_lib
from jaxlung.host import files, progress
from jaxlung.metrics import roc
from jaxlung.parallel import distributed
from jaxlung.tasks import task as task_lib
from jaxlung.training import checkpoint, train_step
from jaxlung.training import system as system_lib
from jaxlung.training.inference import images as image_inference

Judged = tuple[str, scores_lib.SplitScores, dict[str, dict[str, Any]]]


def evaluate(
    config: mlc.ConfigDict,
    workdir: epath.Path,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
    *,
    system: system_lib.System | None = None,
    keep: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores the selected checkpoint on splits.

    Writes `scores_<split>.csv` and `summary_<split>.json` for each. For the test split it also
    writes `panels_test.npz`, `seen_test.npz` if the task has no maps, or, for volumes,
    `planes_test.npz` and `predictions/<case>.nii.gz`. A run that tests a fold of a cross-validation
    also keeps the maps of its test split, `probs_test/`; see `probs_files`.

    Args:
        config: config of the run.
        workdir: folder of the run, with `checkpoints/`.
        splits: sources by name; the baselines are fitted to "train".
        names: names of the splits to score.
        system: what `config` describes, if it was made already.
        keep: skip splits that were scored with the same weights before, and with a temperature
            if the config wants one.

    Returns:
        The summaries that were written, by split.

    Raises:
        ValueError: a split is empty, or there is no good checkpoint.
    """
    system = system or system_lib.make_system(config)
    state = checkpoint.load_selected(workdir, config.selection, system.abstract_state())
    weights = checkpoint.digest_weights(state)
    if keep:
        missing = [
            name
            for name in names
            if scored_weights(workdir, name) != weights
            or not is_calibrated_as(workdir, name, config.calibrate)
        ]
        names = distributed.tell_all(missing)
    if not names:
        return {}
    temperature = None
    if config.calibrate:
        temperature = calibrate.fit_temperature(system, state, splits["validation"])
        system = system.with_temperature(temperature)
    if system.task.threshold == 0:
        threshold = choose_threshold(system, state, splits["validation"])
        system = system.with_task(task_lib.with_threshold(system.task, [threshold]))
    summaries = {}
    judge = judge_volumes if system.is_volumetric else judge_images
    is_fold = config.data.get("folds", 0) > 0
    for name, scores, baseline_scores in judge(
        system, state, splits, names, workdir, keeps_probs=is_fold
    ):
        summary = {
            "split": name,
            "step": int(state.step),
            "weights_digest": weights,
            "task": system.task.name,
            "levels": list(system.task.levels),
            "temperature": temperature,
            **scores_lib.summarise(system.task, scores),
            "baselines": baseline_scores,
            "paper": config.paper[name].to_dict(),
        }
        summaries[name] = summary
        files.write_text(workdir / f"scores_{name}.csv", score_table.to_csv(system.task, scores))
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
    *,
    keeps_probs: bool = False,
) -> Iterator[Judged]:
    """Scores splits of images in turn; yields name, scores and baselines' scores of each."""
    task, train_feed, chosen = system.task, None, {}
    if task.is_map:
        train_feed = open_feed(system, splits, "train")
        chosen = fit_baselines(system, train_feed)
    for name in names:
        feed = train_feed if train_feed and name == "train" else open_feed(system, splits, name)
        keep = keep_probs(workdir, name, keeps_probs)
        scores, baseline_scores = score_images(
            system, state, splits[name], feed, chosen, name, keep
        )
        if name == "test" and task.is_map:
            ranks = task.image_scores(scores.confusions)[task.rank_by]
            image_ids = scores.ids["image_id"]
            panels.write(workdir / "panels_test.npz", system, state, feed, image_ids, ranks)
        if name == "test" and not task.is_map:
            is_positive = scores_lib.is_positive(scores)
            panels.write_seen(workdir / "seen_test.npz", system, splits[name], is_positive)
        yield name, scores, baseline_scores


def open_feed(
    system: system_lib.System, splits: Mapping[str, record.Source], name: str
) -> feed_lib.Feed:
    """Opens the feed of one split."""
    return pipeline.open_feed(splits[name], system.settings, system.shardings, name)


def score_images(
    system: system_lib.System,
    state: train_step.TrainState,
    source: record.Source,
    feed: feed_lib.Feed,
    chosen: Mapping[str, baselines.Baseline],
    name: str,
    keep: scores_lib.Keep,
) -> tuple[scores_lib.SplitScores, dict[str, dict[str, Any]]]:
    """Scores the network and the baselines on every image of a split; decodes each image once.

    Args:
        system: what the run's config describes.
        state: the network.
        source: the split.
        feed: feed of the split.
        chosen: baselines by name.
        name: name of the split, for the progress line.
        keep: see `scores.score_image`.
    """
    task, how = system.task, system.image_settings.resize
    outputs = image_inference.predict(
        system, state, feed, order.in_turn(feed.num_examples), feed.num_examples
    )
    rows = []
    at_both_sizes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {key: [] for key in chosen}
    for index, output in enumerate(
        progress.report(outputs, f"evaluating {name}", "images", feed.num_examples)
    ):
        item = source[index]
        rows.append(scores_lib.score_image(task, output, item, how, keep))
        for key, baseline in chosen.items():
            at_both_sizes[key].append(baselines.score_image(task, baseline, output, item, how))
    scores = scores_lib.gather(rows)
    people = scores.ids["patient_id"]
    return scores, {
        key: {
            "description": baseline.description,
            **scores_lib.score_confusions(
                task,
                np.array([fitted for fitted, _ in at_both_sizes[key]]),
                np.array([own for _, own in at_both_sizes[key]]),
                people,
            ),
        }
        for key, baseline in chosen.items()
    }


def judge_volumes(
    system: system_lib.System,
    state: train_step.TrainState,
    splits: Mapping[str, record.Source],
    names: Sequence[str],
    workdir: epath.Path,
    *,
    keeps_probs: bool = False,
) -> Iterator[Judged]:
    """Scores splits of volumes in turn; yields name, scores and the baseline's scores of each."""
    band = baselines.fit_band(baselines.read_voxels(system, splits["train"]))
    for name in names:
        keep_in = workdir if name == "test" else None
        tally = baselines.BandTally(system, band)
        scores = volume_scores.score_split(
            system,
            state,
            splits[name],
            name,
            keep_in,
            also=tally.add,
            keep=keep_probs(workdir, name, keeps_probs),
        )
        yield name, scores, {"hu_band": tally.score()}


def keep_probs(workdir: epath.Path, name: str, keeps_probs: bool) -> scores_lib.Keep:
    """Returns a function that writes the probabilities of a record of the test split, or nothing.

    Args:
        workdir: folder of the run.
        name: name of the record's split.
        keeps_probs: False to write nothing.
    """
    if keeps_probs and name == "test":
        return functools.partial(probs_files.write, workdir / probs_files.FOLDER)
    return lambda item, probs: None


def choose_threshold(
    system: system_lib.System, state: train_step.TrainState, source: record.Source
) -> float:
    """Chooses the threshold that is best on the validation split (Youden's J).

    It is 0.5 if the split has only one class. Only tasks without maps have such a threshold.
    """
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    everything = order.in_turn(feed.num_examples)
    outputs = image_inference.predict(system, state, feed, everything, feed.num_examples)
    probs, levels = zip(
        *((o["probs"].item(), o["levels"].item() > 0) for o in outputs), strict=True
    )
    if all(levels) or not any(levels):
        logging.warning("the validation split has one class only: the threshold is 0.5")
        return 0.5
    threshold = to_float32(roc.best_threshold(np.array(levels), np.array(probs)))
    logging.info("threshold %.4g is best on the validation split", threshold)
    return threshold


def to_float32(threshold: float) -> float:
    """Rounds a threshold down to float32, in which a device compares it.

    Rounded up, it could equal a probability that was above it. 0 means "to be chosen" and 1 is no
    threshold, so they become their neighbours.
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


def is_calibrated_as(workdir: epath.Path, split: str, calibrate: bool) -> bool:
    """Returns True if a split was scored with a temperature, or without one, as `calibrate` says.

    A split without a readable summary is as wanted, because it isn't scored at all.
    """
    try:
        summary = run_files.load_summary(workdir, split)
    except ValueError:  # `scored_weights` tells.
        return True
    return summary is None or (summary.temperature is not None) == calibrate


def fit_baselines(system: system_lib.System, feed: feed_lib.Feed) -> dict[str, baselines.Baseline]:
    """Finds the brightness threshold and the mean mask that do best on the training split."""
    task = system.task
    pairs = (
        (image, np.asarray(task.true_levels(mask, label)))
        for image, mask, label in read_images(system, feed, "fitting the baselines")
    )
    counts = baselines.count(pairs, len(task.levels))
    return {
        "threshold": baselines.fit_threshold(counts.histograms, task.levels),
        "mean_mask": baselines.fit_mean_mask(counts.level_counts, task.levels),
    }


def read_images(
    system: system_lib.System, feed: feed_lib.Feed, what: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields image and mask [S, S] uint8, and label [] uint8, of every example of a feed."""
    batch_size, total = system.settings.eval_batch_size, feed.num_examples
    # Every process reads whole batches.
    replicate = distributed.compiled_by_all(
        jax.jit(lambda batch: batch, out_shardings=system.shardings.replicated)
    )
    batches = feed.batches(order.in_turn(total), batch_size, -(-total // batch_size))
    arrays = (jax.device_get(replicate(batch)) for batch in batches)
    rows = (row for x in arrays for row in zip(x["images"], x["masks"], x["labels"], strict=True))
    yield from progress.report(itertools.islice(rows, total), what, "images", total)
