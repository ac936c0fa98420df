"""Runs the unfinished runs of a study, then writes its tables and its page."""

from collections.abc import Mapping

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import job
from jaxlung.config import workdir
from jaxlung.host import files
from jaxlung.study import (
    comparison,
    contents,
    out_of_fold,
    outputs,
    page,
    results,
    rows,
    tables,
)
from jaxlung.study import study as study_lib
from jaxlung.training import system


def run(study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict], path: epath.Path) -> bool:
    """Runs the study in `path`, and resumes it if an earlier call was stopped.

    Writes `runs/<name>`, `study.html`, `study.md`, `study.csv`, `study.png`, `figures/outputs.png`
    if the study shows images, `out_of_fold/` if it has folds, and `study_differences.csv` and
    `figures/differences.png` if rows can be compared.

    Args:
        study: The study.
        configs: Name of a run -> its config.
        path: The study's folder.

    Returns:
        True if the study is complete; False if a signal stopped a run, after it was saved.

    Raises:
        ValueError, OSError: bad config, data or folder; see `job.run`.
        FloatingPointError: a loss is not finite.
    """
    for config in configs.values():  # A bad setting is reported before the first run starts.
        system.make_system(config)
    make_folder(path / "runs")
    with workdir.lock(path):
        for number, one in enumerate(study.runs, 1):
            logging.info("run %d of %d: %s", number, len(study.runs), one.name)
            job.run(configs[one.name], path / "runs" / one.name)
            if not results.is_finished(path / "runs" / one.name):
                logging.info(
                    "the study stopped in run %s; run the same command to resume", one.name
                )
                return False
        write(study, configs, path)
    return True


def make_folder(path: epath.Path) -> None:
    """Makes a folder and its parents; raises ValueError if it can't."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--workdir: can't make the folder {path} ({error.strerror}).") from error


def write(study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict], path: epath.Path) -> None:
    """Writes tables, figures and the page from the finished runs in `path`."""
    found = [
        results.load(one, configs[one.name], path / "runs" / one.name, study.split)
        for one in study.runs
    ]
    shown = [result for result in found if result.run.in_table]
    table = rows.make(study, shown)
    images = outputs.collect(study.images, shown) if study.images else None
    compared = comparison.make(study, shown)
    content = contents.make(study, found, table, images, compared)
    files.write_text(path / "study.csv", tables.to_csv(study, table))
    if compared and compared.differences:
        files.write_text(path / "study_differences.csv", tables.differences_to_csv(compared))
    files.write_text(path / "study.md", tables.to_markdown(content))
    out_of_fold.write(shown, path)
    logging.info("study: %s", page.build(content, table, images, path))
