"""Runs the unfinished runs of a study side by side, then writes its tables and its page."""

import contextlib
import os
from collections.abc import Mapping, Sequence

import jax
import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import job
from jaxlung.config import study_folder, workdir
from jaxlung.evaluation import lung_masks
from jaxlung.host import files, folder_lock
from jaxlung.study import (
    comparison,
    contents,
    devices,
    out_of_fold,
    outputs,
    page,
    race,
    results,
    rows,
    schedule,
    screen,
    sweep_results,
    tables,
)
from jaxlung.study import study as study_lib
from jaxlung.training import system


def run(
    study: study_lib.Study,
    configs: Mapping[str, mlc.ConfigDict],
    path: epath.Path,
    *,
    devices_per_run: int | None = None,
    at_once: int | None = None,
) -> bool:
    """Runs the study in `path`, and resumes it if an earlier call was stopped.

    Each run is a process of its own with its own devices; see `schedule.run`. This process leaves
    the accelerators to them. Writes `runs/<name>`, `study.html`, `study.md`, `study.csv`,
    `study.png`, `figures/outputs.png` if the study shows images, `out_of_fold/` if it has folds,
    `study_differences.csv` and `figures/differences.png` if rows can be compared, `sweep.csv` and
    `sweep.png` of a sweep, and last `finished.txt`.

    Args:
        study: The study.
        configs: Name of a run -> its config.
        path: The study's folder.
        devices_per_run: See `devices.find`.
        at_once: See `devices.find`.

    Returns:
        True if the study is complete; False if a signal stopped it, after all runs were saved.

    Raises:
        ValueError, OSError: bad config, data or folder.
        ChildProcessError: some runs failed; the others are finished.
    """
    pool = devices.find(os.environ, devices_per_run, at_once)
    tasks = make_tasks(study, configs, path)
    for task in tasks:  # A bad setting is reported before the first run starts.
        check(task, pool)
    make_folder(path / "runs")
    study_folder.write(path, {one.name: one.group for one in study.runs})
    if study.sweep:
        return run_sweep(study, configs, path, pool)
    if left := [task for task in tasks if not schedule.is_done(task)]:
        (path / job.FINISHED).unlink(missing_ok=True)
        logging.info("%d of %d runs are left to do", len(left), len(tasks))
        open_data(left)
    with contextlib.closing(screen.Screen()) as shown:
        statuses = schedule.run(tasks, pool, show=shown.update)
    failed = schedule.failures(statuses)
    if was_stopped(statuses):
        return False
    if failed:
        raise ChildProcessError(
            f"{len(failed)} of {len(statuses)} runs failed ({', '.join(failed)}), for the reasons "
            "above. Finished runs stay finished; run the same command to try the others again."
        )
    write_once(study, configs, path)
    return True


def was_stopped(statuses: Sequence[schedule.Status]) -> bool:
    """Returns whether a signal stopped a study before all of its tasks ended; logs it."""
    ended = (schedule.FINISHED, schedule.FAILED)
    is_stopped = any(status.state not in ended for status in statuses)
    if is_stopped:
        logging.info("the study stopped; run the same command to resume")
    return is_stopped


def run_sweep(
    study: study_lib.Study,
    configs: Mapping[str, mlc.ConfigDict],
    path: epath.Path,
    pool: devices.Pool,
) -> bool:
    """Runs a sweep whose settings are checked; see `run`.

    A run that fails while it trains is out, and the others go on. In the end `study.json` names the
    best run alone, so that the study's folder stands for it as a model.

    Raises:
        ValueError: all runs failed.
        ChildProcessError: a run was killed, or the best one failed when it was scored.
    """
    assert study.sweep
    sweep = race.Race(study.sweep, configs, path)
    (path / job.FINISHED).unlink(missing_ok=True)
    tasks = sweep.next_tasks()
    open_data(tasks)
    with contextlib.closing(screen.Screen()) as shown:
        statuses = schedule.run(tasks, pool, on_end=sweep.on_end, show=shown.update)
    if was_stopped(statuses):
        return False
    sweep.require_winner()
    if failed := schedule.failures(statuses).keys() - sweep.failures.keys():
        raise ChildProcessError(
            f"run {', '.join(sorted(failed))} failed, for the reason above, so the sweep is not "
            "decided. Run the same command to resume."
        )
    write_once(study, configs, path, sweep.failures)
    (best,) = (status.task.name for status in statuses if status.task.until_epoch is None)
    study_folder.write(path, {best: "best run"})
    return True


def make_tasks(
    study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict], path: epath.Path
) -> list[schedule.Task]:
    """Returns the runs of a study as tasks, each with the names of the runs that it uses.

    A run uses another one if a field of its config is a path of that run's folder or of a file in
    it, as `lungs_run` and `init_from` may be.

    Raises:
        ValueError: a run uses a later one, or itself.
    """
    folders = {one.name: path / "runs" / one.name for one in study.runs}
    tasks: list[schedule.Task] = []
    for one in study.runs:
        texts = [x for x in workdir.fields(configs[one.name]).values() if isinstance(x, str)]
        needs = [
            name
            for name, folder in folders.items()
            if any(x == str(folder) or x.startswith(f"{folder}/") for x in texts)
        ]
        if later := set(needs) - {task.name for task in tasks}:
            raise ValueError(
                f"study, run {one.name}: it uses the results of run {later.pop()}, want a run "
                "before it in the study."
            )
        tasks.append(
            schedule.Task(one.name, configs[one.name], folders[one.name], needs=tuple(needs))
        )
    return tasks


def check(task: schedule.Task, pool: devices.Pool) -> None:
    """Raises ValueError if a run can't be as its config says, or its folder holds another one.

    A run outside of the study that finds the lungs for it must have finished.
    """
    pool.require_fit(task.name, task.config)
    alone = mlc.ConfigDict(task.config.to_dict())
    alone.mesh.update(data=-1, space=1)  # The run's own devices can't be seen from here.
    system.make_system(alone, jax.devices()[:1])
    workdir.require_same(task.config, task.path)
    if task.config.task.get("lungs") == "predicted" and not task.needs:
        lung_masks.require_run(task.config.lungs_run, task.path, task.config.data)


def open_data(tasks: Sequence[schedule.Task]) -> None:
    """Opens the data of the first unfinished run, prepared if they aren't yet.

    So bad data are reported once, before any run starts. Generated data are left to the runs.

    Raises:
        ValueError, FileNotFoundError: see `datasets.open_splits`.
    """
    first = next((task for task in tasks if not schedule.is_done(task)), None)
    if first and not first.config.data.get("phantom_images", 0):
        system.open_splits(first.config)


def write_once(
    study: study_lib.Study,
    configs: Mapping[str, mlc.ConfigDict],
    path: epath.Path,
    failures: Mapping[str, str] | None = None,
) -> None:
    """Writes the tables, unless another command writes them when this one wants to."""
    before = _written(path)
    with folder_lock.wait_for_turn(path / "lock", "writing the tables"):
        if _written(path) != before and (path / job.FINISHED).exists():
            logging.info("study: another command has written %s", path / "study.html")
            return
        write(study, configs, path, failures)
        files.write_text(path / job.FINISHED, f"{len(study.runs)} runs\n")


def _written(path: epath.Path) -> int:
    """Returns the time at which the table was written, in nanoseconds; 0 if it isn't there."""
    file = path / "study.csv"
    return os.stat(file).st_mtime_ns if file.exists() else 0


def make_folder(path: epath.Path) -> None:
    """Makes a folder and its parents; raises ValueError if it can't."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--workdir: can't make the folder {path} ({error.strerror}).") from error


def write(
    study: study_lib.Study,
    configs: Mapping[str, mlc.ConfigDict],
    path: epath.Path,
    failures: Mapping[str, str] | None = None,
) -> None:
    """Writes tables, figures and the page from the finished runs in `path`.

    Args:
        study: The study.
        configs: Name of a run -> its config.
        path: The study's folder.
        failures: Name of a run of a sweep that failed -> the reason.
    """
    swept = sweep_results.make(study, configs, path, failures or {}) if study.sweep else None
    if swept:
        files.write_text(path / "sweep.csv", sweep_results.to_csv(swept))
    found = [
        results.load(one, configs[one.name], path / "runs" / one.name, study.split)
        for one in ([swept.outcomes[0].run] if swept else study.runs)
    ]
    shown = [result for result in found if result.run.in_table]
    table = rows.make(study, shown)
    images = outputs.collect(study.images, shown) if study.images else None
    compared = comparison.make(study, shown)
    content = contents.make(study, found, table, images, compared, swept)
    files.write_text(path / "study.csv", tables.to_csv(study, table))
    if compared and compared.differences:
        files.write_text(path / "study_differences.csv", tables.differences_to_csv(compared))
    files.write_text(path / "study.md", tables.to_markdown(content))
    out_of_fold.write(shown, path)
    logging.info("study: %s", page.build(content, table, images, path, swept))
