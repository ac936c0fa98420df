"""A run's files, read once for its report and its model card."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.report import facts
from jaxlung.tasks import words

_COLUMNS = ("image_id", "patient_id", "split")


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a run's files.

    Attributes:
        path: The run's folder.
        config: Content of `config.json`, or {}.
        metrics: Columns of `metrics.csv`, or {}.
        summaries: Scores of one or more splits, in the order of `run_files.SPLITS`.
        patients: Split -> the patient of each of its images; {} without `splits.csv`.
    """

    path: epath.Path
    config: Mapping[str, Any]
    metrics: Mapping[str, np.ndarray]
    summaries: Sequence[run_files.Summary]
    patients: Mapping[str, Sequence[str]]

    @property
    def main(self) -> run_files.Summary:
        """Returns the scores of the test split; of the last split that was scored without one."""
        return self.summaries[-1]

    @property
    def task(self) -> str:
        """Returns the name of the task."""
        return self.main.task

    @property
    def words(self) -> words.Words:
        """Returns the words of the task."""
        return words.find(self.task)

    @property
    def is_phantom(self) -> bool:
        """Returns whether the images were generated."""
        return facts.is_phantom(self.config)

    @property
    def needs_lungs(self) -> bool:
        """Returns whether the network sees only the lungs, and must be given their masks."""
        task = self.section("task")
        return task.get("region") == "lung" or task.get("lungs", "none") != "none"

    @property
    def has_groups(self) -> bool:
        """Returns whether the dataset divides its images into groups."""
        return any(name.strip() for summary in self.summaries for name in summary.by_group)

    def section(self, name: str) -> Mapping[str, Any]:
        """Returns a section of the config; {} if there is none."""
        return self.config.get(name, {})


def load(workdir: epath.PathLike) -> Run:
    """Reads the files of a run.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    path = epath.Path(workdir).resolve()
    return Run(
        path=path,
        summaries=run_files.load_summaries(path),
        config=run_files.load_config(path),
        metrics=run_files.load_metrics(path),
        patients=_load_patients(path / "splits.csv"),
    )


def shorten_paths(run: Run) -> Run:
    """Returns the run with only the last part of each path in its config.

    A model card is passed on to others, whom the user's folders do not concern.
    """
    short = dict(run.config)
    if "init_from" in short:
        short["init_from"] = _last_part(short["init_from"])
    if "root" in run.section("data"):
        roots = [_last_part(root) for root in short["data"]["root"].split(",") if root.strip()]
        short["data"] = short["data"] | {"root": ", ".join(roots)}
    return dataclasses.replace(run, config=short)


def _last_part(path: str) -> str:
    path = path.strip()
    return pathlib.PurePosixPath(path).name or path


def _load_patients(path: epath.Path) -> dict[str, list[str]]:
    rows = run_files.load_rows(path)
    if rows and not set(_COLUMNS) <= rows[0].keys():
        raise ValueError(f"{path}: want the columns {', '.join(_COLUMNS)}, got {[*rows[0]]}.")
    patients: dict[str, list[str]] = {}
    for row in rows:
        patients.setdefault(row["split"], []).append(row["patient_id"])
    return patients
