"""Out-of-fold scores and predictions of a study as files.

Each image is predicted by the runs that were not trained on it, one for each seed.
"""

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import run_files
from jaxlung.evaluation import probs_files
from jaxlung.host import csv_text, files, progress
from jaxlung.study import pooled, results
from jaxlung.training import system

FOLDER = "out_of_fold"
MAPS, SOURCES = "maps", "sources.json"
IDS = ("image_id", "patient_id", "group")


def write(shown: Sequence[results.Result], path: epath.Path) -> None:
    """Writes `out_of_fold/` of a study with folds; with several groups of folds, a folder for each.

    - `scores.csv` has a row per image and seed: run, seed and fold, and the run's scores.
    - `predictions.csv` has a row per image: the mean over the seeds of its probability or, for
      maps, the file with the mean over the seeds of its map.
    - `maps/` has these files; see `probs_files`. They are made again only if a run was.

    Args:
        shown: the runs of the study's table.
        path: the study's folder.

    Raises:
        ValueError: a file of a run can't be read, or two folds test the same image.
    """
    groups = find_groups(shown)
    for label, folds in groups.items():
        # Percent signs keep names apart that differ in characters which file names can't have.
        own = urllib.parse.quote(label, safe=" +,=()") if len(groups) > 1 else ""
        folder = path / FOLDER / own
        folder.mkdir(parents=True, exist_ok=True)
        tested = pooled.collect(folds)
        files.write_text(folder / "scores.csv", to_csv(tested))
        _write_predictions(folds, tested, folder)


def tables(path: epath.Path) -> list[str]:
    """Returns the paths of the tables that `write` wrote, relative to the study's folder."""
    found = (x for pattern in ("*.csv", "*/*.csv") for x in (path / FOLDER).glob(pattern))
    return sorted(str(x.relative_to(path)) for x in found)


def find_groups(shown: Sequence[results.Result]) -> dict[str, list[results.Result]]:
    """Returns the runs of each group that is a cross-validation, scored on the test split."""
    groups: dict[str, list[results.Result]] = {}
    for result in shown:
        if result.run.group:
            groups.setdefault(result.run.group, []).append(result)
    return {
        label: members
        for label, members in groups.items()
        if len(members) > 1
        and all(results.is_fold(x) and x.summary.split == "test" for x in members)
    }


def to_csv(tested: Sequence[pooled.Tested]) -> str:
    """Returns a table of all images: run, seed, fold, ids and scores; unknown cells are empty."""
    columns = list(dict.fromkeys(name for each in tested for name in each.cells))
    lines = [
        [
            each.result.run.name,
            each.result.config.seed,
            each.result.config.data.fold,
            *(each.cells.get(name, "") for name in columns),
        ]
        for each in tested
    ]
    return csv_text.to_text([["run", "seed", "fold", *columns], *lines])


def _write_predictions(
    folds: Sequence[results.Result], tested: Sequence[pooled.Tested], folder: epath.Path
) -> None:
    task = system.make_task(folds[0].config)
    by_image: dict[str, list[pooled.Tested]] = {}
    for one in tested:
        by_image.setdefault(one.cells["image_id"], []).append(one)
    names = {who: probs_files.name_file(who, probs_files.ending(task)) for who in by_image}
    if task.is_map:
        parts = {
            name: [x.result.path / probs_files.FOLDER / name for x in by_image[who]]
            for who, name in names.items()
        }
        if not _write_maps(_sources(folds), parts, folder):
            return
    lines: list[list[Any]] = [[*IDS, "num_seeds", "file" if task.is_map else "probability"]]
    for who, each in by_image.items():
        found = f"{MAPS}/{names[who]}" if task.is_map else _mean(each)
        lines.append([*(each[0].cells.get(name, "") for name in IDS), len(each), found])
    files.write_text(folder / "predictions.csv", csv_text.to_text(lines))


def _mean(tested: Sequence[pooled.Tested]) -> float:
    return float(np.mean([run_files.to_number(x.cells.get("probability", "")) for x in tested]))


def _sources(folds: Sequence[results.Result]) -> dict[str, dict[str, Any]]:
    """Returns the weights and the temperature that the maps of each run are made of."""
    facts = ("weights_digest", "temperature")
    return {x.run.name: {name: getattr(x.summary, name) for name in facts} for x in folds}


def _write_maps(
    sources: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, Sequence[epath.Path]],
    folder: epath.Path,
) -> bool:
    """Writes the mean of each image's maps, or logs why it can't.

    Args:
        sources: run -> what its maps are made of.
        parts: name of an image's map -> the runs' maps of it.
        folder: folder of the group.

    Returns:
        True if the maps are there.
    """
    made_of = folder / SOURCES
    if made_of.exists() and run_files.load_json(made_of) == sources:
        return True
    made_of.unlink(missing_ok=True)
    missing = [path for paths in parts.values() for path in paths if not path.exists()]
    if missing:
        logging.warning(
            "%s: no predictions, as %d maps of single runs are missing, %s first; runs of earlier "
            "versions kept none. jaxlung evaluate --workdir=RUN --split=test makes those of a run",
            folder,
            len(missing),
            missing[0],
        )
        return False
    for name, paths in progress.report(parts.items(), "out-of-fold maps", "images", len(parts)):
        probs_files.write_mean(paths, folder / MAPS / name)
    # Last: it says that the maps are whole, and which weights made them.
    files.write_text(made_of, json.dumps(sources, indent=2) + "\n")
    return True
