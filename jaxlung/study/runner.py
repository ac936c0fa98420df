"""Runs a study: what is missing is run, what is finished is kept; then its tables and page."""

from collections.abc import Mapping

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import job
from jaxlung.config import workdir
from jaxlung.host import files
from jaxlung.study import outputs, page, results, rows, tables
from jaxlung.study import study as study_lib
from jaxlung.training import system


def run(study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict], path: epath.Path) -> bool:
    """Runs the study in `path`, from wherever an earlier call got to.

    Leaves `runs/<name>`, `study.html`, `study.md`, `study.csv`, `study.png`, and
    `figures/outputs.png` where images are shown.

    Args:
        study: what there is to run.
        configs: of its runs, by name.
        path: the study's folder.

    Returns:
        Whether it is complete; False if a signal stopped one of the runs, after saving.

    Raises:
        ValueError, OSError: bad config, data or workdir; see `job.run`.
        FloatingPointError: a loss is not finite.
    """
    for config in configs.values():
        system.make_system(config)  # A bad setting of the last run is told before the first.
    make_folder(path / "runs")
    with workdir.lock(path):
        for number, one in enumerate(study.runs, 1):
            logging.info("run %d of %d: %s", number, len(study.runs), one.name)
            job.run(configs[one.name], path / "runs" / one.name)
            if not results.is_finished(path / "runs" / one.name):
                logging.info("the study stopped in run %s; the same command goes on", one.name)
                return False
        write(study, configs, path)
    return True


def make_folder(path: epath.Path) -> None:
    """Makes a folder and those above it, or raises ValueError."""
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
    files.write_text(path / "study.csv", tables.to_csv(study, table))
    files.write_text(path / "study.md", tables.to_markdown(study, found, table, images))
    logging.info("study: %s", page.build(study, found, table, images, path))
