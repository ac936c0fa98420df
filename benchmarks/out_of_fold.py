"""Prints the scores of a cross-validation as a Markdown table: all tested images, and each group.

    python -m benchmarks.out_of_fold runs/lungs_folds/runs/*

Each run is a fold, of one seed or of several. The score of an image is the mean over the runs that
tested it, at the image's own size. Intervals (95 %) are over patients, see `docs/scores.md`.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.evaluation import intervals
from jaxlung.metrics import jackknife

SCORES = {"dice_stored": "Dice", "iou_stored": "IoU"}  # column of the run's table -> heading
POOR = 0.9  # Dice below which an image is counted as poor (our choice)
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Image:
    """A tested image.

    Attributes:
        patient: the person that it shows.
        group: its group, "" if the runs have none.
        scores: [S] the scores in the order of `SCORES`.
    """

    patient: str
    group: str
    scores: np.ndarray


def load(runs: Sequence[pathlib.Path]) -> dict[str, Image]:
    """Returns the tested images of several runs by name, with the mean of their scores.

    Raises:
        ValueError: a run has no scores of a test split.
    """
    found: dict[str, list[Image]] = {}
    for run in runs:
        rows = run_files.load_rows(epath.Path(run) / "scores_test.csv")
        if not rows or not SCORES.keys() <= rows[0].keys():
            raise ValueError(f"{run}: want scores_test.csv with {' and '.join(SCORES)}.")
        for row in rows:
            scores = np.array([run_files.to_number(row[name]) for name in SCORES])
            image = Image(row["patient_id"], row["group"], scores)
            found.setdefault(row["image_id"], []).append(image)
    means = {name: np.mean([each.scores for each in x], axis=0) for name, x in found.items()}
    return {name: dataclasses.replace(found[name][0], scores=x) for name, x in means.items()}


def tabulate(images: Sequence[Image]) -> str:
    """Returns the table: a row for each group, the last one for all images."""
    by_group = {name: [x for x in images if x.group == name] for name in _groups(images)}
    poor = f"images with Dice below {POOR}"
    lines = [
        f"| X-rays of | images | patients | {' | '.join(SCORES.values())} | lowest 5 % | {poor} |",
        f"|---|---|---|{'---|' * len(SCORES)}---|---|",
    ]
    return "\n".join(lines + [_row(name, x) for name, x in (by_group | {ALL: images}).items()])


def _groups(images: Sequence[Image]) -> list[str]:
    return sorted({image.group for image in images if image.group})


def _row(name: str, images: Sequence[Image]) -> str:
    values = np.stack([image.scores for image in images], axis=1)
    people = np.array([image.patient for image in images])
    found = intervals.with_intervals(
        lambda weights: {
            key: jackknife.weighted_mean(x, weights) for key, x in zip(SCORES, values, strict=True)
        },
        people,
    )
    cells = [_score(found["scores"][key], found["intervals"][key]) for key in SCORES]
    worst = f"Dice {np.quantile(values[0], 0.05):.3f} or less"
    counts = [len(images), len(set(people)), *cells, worst, np.count_nonzero(values[0] < POOR)]
    return " | ".join(["", name, *map(str, counts), ""]).strip()


def _score(score: float, ends: Sequence[float | None]) -> str:
    if None in ends:
        return f"{score:.3f}"
    return f"{score:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="folders of the folds' runs")
    try:
        images = load(parser.parse_args().runs)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    sys.stdout.write(f"{tabulate(list(images.values()))}\n")


if __name__ == "__main__":
    main()
