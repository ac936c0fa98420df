"""The files of a run that a model card is made from."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.report import facts, glossary

_COLUMNS = ("image_id", "patient_id", "split")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the files say.

    Attributes:
        config: `config.json`, or {}; of the paths that a card shows only the last parts, as it is
            handed on.
        metrics: columns of `metrics.csv`, or {}.
        summaries: one or more, in the order of `run_files.SPLITS`.
        patients: split -> the patient of each of its images; {} without `splits.csv`.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, np.ndarray]
    summaries: Sequence[run_files.Summary]
    patients: Mapping[str, Sequence[str]]

    @property
    def main(self) -> run_files.Summary:
        """The test split's, where there is one."""
        return self.summaries[-1]

    @property
    def task(self) -> str:
        """Its name."""
        return self.main.task

    @property
    def kind(self) -> str:
        """What the network sees, "X-ray" or "CT"."""
        return glossary.reword("X-ray", self.task)

    @property
    def is_phantom(self) -> bool:
        """Whether its images were generated."""
        return facts.is_phantom(self.config)

    @property
    def needs_lungs(self) -> bool:
        """Whether it sees the inside of the lungs alone, and must be told where they are."""
        task = self.section("task")
        return task.get("region") == "lung" or task.get("lungs", "none") != "none"

    @property
    def has_groups(self) -> bool:
        """Whether its data name groups of images."""
        return any(name.strip() for summary in self.summaries for name in summary.by_group)

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the config; {} if there is none."""
        return self.config.get(name, {})


def load(workdir: epath.Path) -> Run:
    """Reads the files.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    return Run(
        config=_shorten_paths(run_files.load_config(workdir)),
        metrics=run_files.load_metrics(workdir),
        summaries=run_files.load_summaries(workdir),
        patients=_load_patients(workdir / "splits.csv"),
    )


def _shorten_paths(config: dict[str, Any]) -> dict[str, Any]:
    short = dict(config)
    if "init_from" in config:
        short["init_from"] = _last_part(config["init_from"])
    if "root" in config.get("data", {}):
        roots = [_last_part(root) for root in config["data"]["root"].split(",") if root.strip()]
        short["data"] = config["data"] | {"root": ", ".join(roots)}
    return short


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
