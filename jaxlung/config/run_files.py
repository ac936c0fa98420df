"""Reads and checks the files that a run leaves in its workdir, for reports and studies."""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from etils import epath

from jaxlung.config import summary_check
from jaxlung.host import csv_text

SPLITS = ("train", "validation", "test")
FINISHED = "finished.txt"  # Written last; holds step and weights digest of what was scored.
Paper = Mapping[str, float | Sequence[float]]  # A paper's numbers; a pair is a range.
Bundle = TypeVar("Bundle")  # a dataclass of arrays
SECTIONS = ("model", "task", "optimizer", "step", "control", "data", "augment", "mesh", "paper")
LOSSES = ("loss", "loss_excess")
# Fields that the summaries of older runs lack, and the values that stand for that.
_LATER: Mapping[str, Any] = {
    "sd": {},
    "temperature": None,
    "calibration": {},
    "calibration_before": {},
    "by_size": {},
    "weights_digest": "",
}
METRICS = (
    "epoch",
    *LOSSES,
    *(f"val_{name}" for name in LOSSES),
    "learning_rate",
    "images_per_s",
    "seconds",
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The scores of one split: the content of `summary_<split>.json`.

    Attributes:
        split: one of `SPLITS`.
        num_images: number of images in the split.
        num_patients: number of patients in the split; `num_images` where they are not known.
        step: step of the checkpoint that was scored.
        task: name of the task, a key of `tasks.TASKS`.
        levels: names of the levels, background first.
        scores: scores by key; None or NaN where a score is undefined.
        intervals: key -> [low, high], 95 %, for the scores that have one; an end may be None.
        sd: key -> standard deviation over the images, or None; {} where no score is a mean of them.
        by_group: group -> {"num_images": int, "scores", "intervals"}; {} without groups.
        baselines: name -> {"description": str, "scores", "intervals"}.
        paper: the paper's numbers for this split, by its own keys; [low, high] where it gives a
            range.
        threshold: probability above which a pixel is foreground; None where there is none.
        temperature: number that logits were divided by; None if probabilities weren't calibrated.
        thresholds: {} or "thresholds", "dice", "iou" -> [T] numbers, means over the images.
        roc: {} or "fpr", "tpr", "thresholds" -> [T] numbers, "auc", "auc_interval" [low, high].
        calibration: {} or "counts", "mean_prob", "fraction" of foreground -> [15] numbers by bin of
            probability, None for an empty bin; "ece", "ece_interval", "ace", "ace_interval".
        calibration_before: the same of the probabilities without the temperature; {} if there is
            no temperature.
        by_size: {} or three keys: "unit" of the sizes; "quartiles" -> 4 x {"num_images",
            "num_nothing_found", "range" [low, high], "scores", "intervals"}; "without", the
            images without any foreground -> {"num_images", "num_nothing_found"}.
        confusion: [L, L] counts of images, rows are the reference; [] where pixels are counted.
        undefined: key -> number of images for which the score is undefined.
        weights_digest: digest of the checkpoint's weights; "" if an earlier version scored it.
    """

    split: str
    num_images: int
    num_patients: int
    step: int
    task: str
    levels: list[str]
    scores: dict[str, float | None]
    intervals: dict[str, list[float | None]]
    sd: dict[str, float | None]
    by_group: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, Any]]
    paper: Paper
    threshold: float | None
    temperature: float | None
    thresholds: dict[str, list[float | None]]
    roc: dict[str, Any]
    calibration: dict[str, Any]
    calibration_before: dict[str, Any]
    by_size: dict[str, Any]
    confusion: list[list[int]]
    undefined: dict[str, int]
    weights_digest: str = ""


@dataclasses.dataclass(frozen=True)
class Panels:
    """The best, median and worst images of the test split: the content of `panels_test.npz`.

    Attributes:
        image: [K, H, W] uint8.
        raw: [K, H, W] float32 in [0, 1], the network's output.
        pred: [K, H, W] uint8 greys after post-processing; 255 is the highest level.
        target: [K, H, W] uint8 greys of the annotation.
        kind: [K] str, "best", "median" or "worst".
        image_id: [K] str.
        score: [K] float32.
        score_name: [] str, the key of `score`.
    """

    image: np.ndarray
    raw: np.ndarray
    pred: np.ndarray
    target: np.ndarray
    kind: np.ndarray
    image_id: np.ndarray
    score: np.ndarray
    score_name: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """One score of every image of a split.

    Attributes:
        name: the score's key.
        values: [N] float64, may hold NaN.
        groups: N names, "" where there are no groups.
    """

    name: str
    values: np.ndarray
    groups: list[str]


def load_summaries(workdir: epath.Path) -> list[Summary]:
    """Returns the summaries of a workdir in the order of `SPLITS`.

    Raises:
        ValueError: there is no summary, or one can't be read.
    """
    found = [load_summary(workdir, split) for split in SPLITS]
    summaries = [summary for summary in found if summary]
    if not summaries:
        raise ValueError(f"{workdir}: want a summary_<split>.json to report on, found none.")
    return summaries


def load_summary(workdir: epath.Path, split: str) -> Summary | None:
    """Returns the scores of one split; None if its file doesn't exist.

    Raises:
        ValueError: the file can't be read, or its fields are missing or of other types.
    """
    path = workdir / f"summary_{split}.json"
    if not path.exists():
        return None
    content = {**_LATER, **load_json(path)}
    try:
        summary_check.check(content)
        if content["split"] != split:
            raise ValueError(f"split: want {split}, got {content['split']!r:.60}.")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Summary(**{field.name: content[field.name] for field in dataclasses.fields(Summary)})


def load_config(workdir: epath.Path) -> dict[str, Any]:
    """Returns the content of `config.json`; {} if the file doesn't exist.

    Raises:
        ValueError: the file, or one of its sections, is no JSON object.
    """
    path = workdir / "config.json"
    if not path.exists():
        return {}
    config = load_json(path)
    for name in SECTIONS:
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{path}: {name}: want an object, got {config[name]!r:.60}.")
    return config


def load_json(path: epath.Path) -> dict[str, Any]:
    """Reads a file with one JSON object.

    Raises:
        ValueError: the file holds something else; names it.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # Not JSON, not even text, or nested too deep.
        raise ValueError(f"{path}: want JSON, got something else ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: want a JSON object, got {type(content).__name__}.")
    return content


def load_metrics(workdir: epath.Path) -> dict[str, np.ndarray]:
    """Returns the columns of `metrics.csv`, [epochs] float64; {} before the first finished epoch.

    Raises:
        ValueError: the file can't be read, lacks one of `METRICS`, or holds text for a number.
    """
    path = workdir / "metrics.csv"
    rows = load_rows(path)
    if not rows:
        return {}
    missing = [name for name in METRICS if name not in rows[0]]
    if missing:
        raise ValueError(f"{path}: want the columns {', '.join(METRICS)}; lacks {missing[0]}.")
    return {name: _to_column(path, name, [row[name] for row in rows]) for name in rows[0]}


def _to_column(path: epath.Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """Returns the numbers of a column; NaN for empty cells."""
    try:
        column = np.array([float(cell or "nan") for cell in cells])
    except ValueError as error:
        raise ValueError(f"{path}: {name}: want numbers ({error}).") from error
    if np.isinf(column).any():
        raise ValueError(f"{path}: {name}: want finite numbers, got an infinite one.")
    return column


def find_epoch_score(metrics: Mapping[str, np.ndarray]) -> str:
    """Returns the score logged each epoch for training and validation; "" if there is none."""
    scores = (name for name in metrics if f"val_{name}" in metrics and name not in LOSSES)
    return next(scores, "")


def load_image_scores(workdir: epath.Path, split: str, names: Sequence[str]) -> ImageScores | None:
    """Returns the first of the scores `names` in `scores_<split>.csv`; None if it has none."""
    rows = load_rows(workdir / f"scores_{split}.csv")
    name = next((name for name in names if rows and name in rows[0]), None)
    if name is None:
        return None
    values = np.array([to_number(row[name]) for row in rows])
    return ImageScores(name, values, [row.get("group") or "" for row in rows])


def load_rows(path: epath.Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file as dicts by column; [] if the file doesn't exist."""
    if not path.exists():
        return []
    try:
        return csv_text.parse_by_column(path.read_text())
    except ValueError as error:  # Not text, or no table.
        raise ValueError(f"{path}: want a CSV table, got something else ({error}).") from error


def to_number(text: str) -> float:
    """Returns the number in a cell of a table; NaN for an empty cell or a word."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def load_arrays(path: epath.Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Returns the arrays `names` of an .npz file, or all of them.

    Raises:
        ValueError: the file can't be read; the caller names it.
        KeyError: the file lacks an array.
    """
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it is a lone array")
            return {name: content[name] for name in (content.files if names is None else names)}
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def load_bundle(path: epath.Path, kind: type[Bundle]) -> Bundle:
    """Reads an .npz file into a dataclass whose fields are its arrays.

    Raises:
        ValueError: the file can't be read, or lacks an array; names it.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # any dataclass
    try:
        return kind(**load_arrays(path, names))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: want an .npz with {', '.join(names)}; {error}.") from error


def load_panels(workdir: epath.Path) -> Panels | None:
    """Reads `panels_test.npz`; returns None if the file doesn't exist or holds no image.

    Raises:
        ValueError: the file can't be read or lacks an array, or its arrays differ in shape.
    """
    path = workdir / "panels_test.npz"
    if not path.exists():
        return None
    panels = load_bundle(path, Panels)
    shapes = {name: getattr(panels, name).shape for name in ("image", "raw", "pred", "target")}
    if len(set(shapes.values())) > 1 or panels.image.ndim != 3:
        raise ValueError(f"{path}: want one shape [K, H, W] for all images, got {shapes}.")
    return panels if len(panels.image) else None
