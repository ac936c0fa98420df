"""What is known of every image of a split after prediction, and the tables made from it."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxlung.data import record, resize
from jaxlung.metrics import overlap
from jaxlung.tasks import task as task_lib

PIXEL_MEANS = ("loss", "loss_excess", "mse", "mae")  # of the raw output, per image


@dataclasses.dataclass(frozen=True)
class SplitScores:
    """Scores of every image of a split, in the order of its source.

    Attributes:
        ids: "image_id", "patient_id" and "group" -> [N] str.
        pixel_means: `PIXEL_MEANS` -> [N] float64.
        confusions: [N, L, L] int64 at the network's size.
        stored: [N, L, L] int64 at the images' own size.
    """

    ids: dict[str, np.ndarray]
    pixel_means: dict[str, np.ndarray]
    confusions: np.ndarray
    stored: np.ndarray


def collect(
    task: task_lib.Task,
    outputs: Iterable[dict[str, np.ndarray]],
    source: record.Source,
    how: str,
) -> SplitScores:
    """Scores outputs against their records.

    Args:
        task: what the outputs mean.
        outputs: of `train_step.eval_step`, image by image, in the order of `source`.
        source: the records.
        how: `resize` of the images, to be undone for scores at their own size.
    """
    records, rows, stored = [], [], []
    for index, output in enumerate(outputs):
        item = source[index]
        records.append((item.image_id, item.patient_id, item.group))
        rows.append([output[name] for name in PIXEL_MEANS] + [output["confusion"]])
        stored.append(_stored_confusion(task, output["probs"], item, how))
    *means, confusions = zip(*rows, strict=True)
    names = ("image_id", "patient_id", "group")
    columns = zip(*records, strict=True)
    return SplitScores(
        ids={name: np.array(values) for name, values in zip(names, columns, strict=True)},
        pixel_means={
            name: np.array(values, np.float64)
            for name, values in zip(PIXEL_MEANS, means, strict=True)
        },
        confusions=np.array(confusions, np.int64),
        stored=np.array(stored),
    )


def _stored_confusion(
    task: task_lib.Task, probs: np.ndarray, item: record.Record, how: str
) -> np.ndarray:
    probs = resize.unfit(probs, *item.image.shape, how)
    preds = task.postprocess(probs[..., None])
    return overlap.confusion_of_one(task.true_levels(item.mask), preds, len(task.levels))


def summarise(task: task_lib.Task, scores: SplitScores, which: Any) -> dict[str, float]:
    """All scores over the images that the index `which` picks; "..._stored" at their own size."""
    result = {name: float(values[which].mean()) for name, values in scores.pixel_means.items()}
    return result | both_sizes(task, scores.confusions[which], scores.stored[which])


def both_sizes(task: task_lib.Task, confusions: np.ndarray, stored: np.ndarray) -> dict[str, float]:
    """Scores of a split at the network's size, and those at the images' own as "..._stored".

    The latter are left out where the sizes are the same, pixel for pixel.
    """
    result = task.split_scores(confusions)
    if not same_sizes(confusions, stored):
        own = task.split_scores(stored)
        result |= {f"{name}_stored": value for name, value in own.items()}
    return result


def same_sizes(confusions: np.ndarray, stored: np.ndarray) -> bool:
    """Whether all images have as many pixels at their own size as at the network's."""
    return np.array_equal(confusions.sum(axis=(1, 2)), stored.sum(axis=(1, 2)))


def summarise_groups(task: task_lib.Task, scores: SplitScores) -> dict[str, dict[str, Any]]:
    """The same for each group of images ("COVID-19", ...); {} if there is only one."""
    groups = scores.ids["group"]
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return {}
    return {
        name: {
            "num_images": int((groups == name).sum()),
            "scores": summarise(task, scores, groups == name),
        }
        for name in names
    }


def to_csv(task: task_lib.Task, scores: SplitScores) -> str:
    """A row per image: who it is, and its scores."""
    columns = scores.ids | scores.pixel_means | task.image_scores(scores.confusions)
    if not same_sizes(scores.confusions, scores.stored):
        stored = task.image_scores(scores.stored)
        columns |= {f"{name}_stored": values for name, values in stored.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    return text.getvalue()
