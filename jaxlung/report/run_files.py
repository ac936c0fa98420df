"""What a workdir holds about a run, read and checked."""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung import csv_text
from jaxlung.report import summary_check

SPLITS = ("train", "validation", "test")
Paper = Mapping[str, float | Sequence[float]]  # A paper's numbers; two stand for a range.
SECTIONS = ("model", "task", "optimizer", "step", "control", "data", "augment", "mesh", "paper")
LOSSES = ("loss", "loss_excess")
_LATER = {
    "sd": {},
    "calibration": {},
    "by_size": {},
    "weights_digest": "",
}  # Fields that older runs have not.
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
    """Scores of one split, the content of `summary_<split>.json`.

    Attributes:
        split: one of `SPLITS`.
        num_images: images of the split.
        num_patients: people on them; `num_images` where they are not known.
        step: of the checkpoint that was scored.
        task: "three_level", "mask", "volume_mask" or "diagnosis".
        levels: names, background first.
        scores: by key; a score that can't be had is None or NaN.
        intervals: key -> [low, high], 95 %, for the scores that have one; an end may be None.
        sd: key -> standard deviation over the images, or None; {} where no score is a mean of them.
        by_group: group -> {"num_images": int, "scores", "intervals"}; {} without groups.
        baselines: name -> {"description": str, "scores", "intervals"}.
        paper: the paper's numbers for this split, by its own keys; [low, high] where it gives a
            range.
        threshold: what is above this probability is foreground; None where there is none.
        thresholds: {} or "thresholds", "dice", "iou" -> [T] numbers, means over the images.
        roc: {} or "fpr", "tpr", "thresholds" -> [T] numbers, "auc", "auc_interval" [low, high].
        calibration: {} or "counts", "mean_prob", "fraction" of foreground -> [15] numbers by bin of
            probability, None for an empty bin; "ece", "ece_interval", "ace", "ace_interval".
        by_size: {} or "unit" of sizes, "quartiles" -> 4 x {"num_images", "num_nothing_found",
            "range" [low, high], "scores", "intervals"}, "without" any foreground -> the first two.
        confusion: [L, L] counts of images, rows the reference; [] where pixels are counted.
        undefined: key -> images that have no such score.
        weights_digest: of the checkpoint's weights; "" where an earlier version scored it.
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
    thresholds: dict[str, list[float | None]]
    roc: dict[str, Any]
    calibration: dict[str, Any]
    by_size: dict[str, Any]
    confusion: list[list[int]]
    undefined: dict[str, int]
    weights_digest: str = ""


@dataclasses.dataclass(frozen=True)
class Panels:
    """A few images worth a look, the content of `panels_test.npz`.

    Attributes:
        image: [K, H, W] uint8.
        raw: [K, H, W] float32 in [0, 1], the network's output.
        pred: [K, H, W] uint8 greys after post-processing, 255 the highest level.
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
    """The summaries of a workdir in the order of `SPLITS`.

    Raises:
        ValueError: there is none, or one can't be read.
    """
    found = [load_summary(workdir, split) for split in SPLITS]
    summaries = [summary for summary in found if summary]
    if not summaries:
        raise ValueError(f"{workdir}: want a summary_<split>.json to report on, found none.")
    return summaries


def load_summary(workdir: epath.Path, split: str) -> Summary | None:
    """Returns the scores of one split; None without its file.

    Raises:
        ValueError: the file can't be read, or is not of the shape that it should be.
    """
    path = workdir / f"summary_{split}.json"
    if not path.exists():
        return None
    content = _LATER | _load_json(path)
    try:
        summary_check.check(content)
        if content["split"] != split:
            raise ValueError(f"split: want {split}, got {content['split']!r:.60}.")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Summary(**{field.name: content[field.name] for field in dataclasses.fields(Summary)})


def load_config(workdir: epath.Path) -> dict[str, Any]:
    """Returns `config.json`; {} if there is none.

    Raises:
        ValueError: it is no JSON object, or one of its sections isn't.
    """
    path = workdir / "config.json"
    if not path.exists():
        return {}
    config = _load_json(path)
    for name in SECTIONS:
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{path}: {name}: want an object, got {config[name]!r:.60}.")
    return config


def _load_json(path: epath.Path) -> dict[str, Any]:
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
        ValueError: it can't be read, lacks one of `METRICS`, or holds other than numbers.
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
    """Numbers, NaN for what is not known."""
    try:
        column = np.array([float(cell or "nan") for cell in cells])
    except ValueError as error:
        raise ValueError(f"{path}: {name}: want numbers ({error}).") from error
    if np.isinf(column).any():
        raise ValueError(f"{path}: {name}: want finite numbers, got an infinite one.")
    return column


def find_epoch_score(metrics: Mapping[str, np.ndarray]) -> str:
    """The score that was taken after every epoch, of training and validation; "" without one."""
    scores = (name for name in metrics if f"val_{name}" in metrics and name not in LOSSES)
    return next(scores, "")


def load_image_scores(workdir: epath.Path, split: str, names: Sequence[str]) -> ImageScores | None:
    """The first of the scores `names` that `scores_<split>.csv` has; None without any."""
    rows = load_rows(workdir / f"scores_{split}.csv")
    name = next((name for name in names if rows and name in rows[0]), None)
    if name is None:
        return None
    values = np.array([to_number(row[name]) for row in rows])
    return ImageScores(name, values, [row.get("group") or "" for row in rows])


def load_rows(path: epath.Path) -> list[dict[str, str]]:
    """Rows of a CSV file by their columns' names; [] without the file."""
    if not path.exists():
        return []
    try:
        return csv_text.parse_by_column(path.read_text())
    except ValueError as error:  # Not text, or no table.
        raise ValueError(f"{path}: want a CSV table, got something else ({error}).") from error


def to_number(text: str) -> float:
    """The number in a cell of a table; NaN for an empty cell or a word."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def load_arrays(path: epath.Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays `names` of an .npz file, or all of them.

    Raises:
        ValueError: it can't be read; the caller names the file.
        KeyError: it lacks one.
    """
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it is a lone array")
            return {name: content[name] for name in (content.files if names is None else names)}
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def load_panels(workdir: epath.Path) -> Panels | None:
    """`panels_test.npz`; None if there is none, or no image in it.

    Raises:
        ValueError: it can't be read, lacks an array, or its arrays don't fit.
    """
    path = workdir / "panels_test.npz"
    if not path.exists():
        return None
    names = [field.name for field in dataclasses.fields(Panels)]
    try:
        panels = Panels(**load_arrays(path, names))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: want an .npz with {', '.join(names)}; {error}.") from error
    shapes = {name: getattr(panels, name).shape for name in ("image", "raw", "pred", "target")}
    if len(set(shapes.values())) > 1 or panels.image.ndim != 3:
        raise ValueError(f"{path}: want one shape [K, H, W] for all images, got {shapes}.")
    return panels if len(panels.image) else None
