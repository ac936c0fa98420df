"""Runs tasks side by side, each in a process of its own with its own devices.

This is how a study and a sweep run their runs:

    tasks = [schedule.Task(name, config, path / "runs" / name) for name, config in configs.items()]
    pool = devices.find(os.environ)
    ended = schedule.run(tasks, pool)

A task is a run in its folder, to its end or only until an epoch. Tasks that don't need each other
run at once, as many as there are devices for, those with the most epochs first (Graham, "Bounds on
multiprocessing timing anomalies", 1969). Each time that a task has ended, `on_end` is told and may
return further tasks: a sweep that has seen a rung of epochs returns `Task(name, config, path,
until_epoch=9)` for the best runs, under the same names as before.

Whoever holds the lock of a run's folder works on the run, and nobody else. Several commands, on one
machine or on several that share the folder, may run the same tasks: each takes those that nobody
holds, and waits for the others. The kernel frees the lock of a process that dies, so the same
command resumes after any of them was killed.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung import job
from jaxlung.config import run_files, workdir
from jaxlung.host import progress
from jaxlung.parallel import interrupt
from jaxlung.study import devices, workers

POLL_SECONDS = 0.1
SECONDS_BETWEEN_CLAIMS = 2.0  # Of a run that another command holds.
WAITING, HELD, RUNNING = "waiting", "held", "running"
FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"
ENDED = (FINISHED, FAILED, STOPPED)


@dataclasses.dataclass(frozen=True)
class Task:
    """A run, or a part of one.

    Attributes:
        name: Name of the run. A later task of the same name replaces the one before it.
        config: The run's config.
        path: The run's folder.
        until_epoch: Number of epochs after which to stop, to go on later; None for the whole run
            with its scores and report.
        needs: Names of tasks that must have finished first.
    """

    name: str
    config: mlc.ConfigDict
    path: epath.Path
    until_epoch: int | None = None
    needs: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Number of epochs after which the task ends."""
        return min(self.until_epoch or self.config.epochs, self.config.epochs)


@dataclasses.dataclass
class Status:
    """The state of a task.

    Attributes:
        task: The task.
        state: WAITING for devices or for other runs, HELD by another command, RUNNING here,
            FINISHED, FAILED, or STOPPED by a signal, after saving.
        where: Its devices, as "GPU 3"; "" if it doesn't run here.
        reason: A sentence that says why it failed; "" if it didn't.
        seconds: Seconds that it has run here.
    """

    task: Task
    state: str = WAITING
    where: str = ""
    reason: str = ""
    seconds: float = 0.0


OnEnd = Callable[[Status], Sequence[Task]]
Show = Callable[[Sequence[Status]], None]


def run(
    tasks: Sequence[Task],
    pool: devices.Pool,
    *,
    on_end: OnEnd = lambda status: (),
    show: Show = lambda statuses: None,
    command: Sequence[str] = workers.COMMAND,
) -> list[Status]:
    """Runs tasks until all have ended, or a signal came and all that ran here have saved.

    Args:
        tasks: The tasks.
        pool: The devices of this machine.
        on_end: Called once with every task that has finished or failed, here or elsewhere; returns
            further tasks.
        show: Called about ten times a second with the status of every task, in order.
        command: Starts a worker; the tests have others.

    Returns:
        The status of every task. After a signal some are still WAITING, HELD or STOPPED.

    Raises:
        ValueError: a task needs more devices than are here.
        OSError: a folder can't be made.
    """
    schedule = _Schedule(pool, on_end, command)
    schedule.add(tasks)
    with interrupt.collect() as signals:
        try:
            while not schedule.is_over(bool(signals)):
                schedule.reap()
                schedule.pass_on(signals)
                if not signals:
                    schedule.start()
                show(schedule.statuses)
                time.sleep(POLL_SECONDS)
        finally:
            schedule.kill()  # Only after an error here, or a second signal, is any left.
    return schedule.statuses


def is_done(task: Task) -> bool:
    """Returns whether nothing is left to do for a task that nobody works on."""
    if job.is_done(task.config, task.path):
        return True
    return task.until_epoch is not None and epochs_done(task.path) >= task.epochs


def epochs_done(path: epath.Path) -> int:
    """Returns the number of epochs that the run in `path` has finished."""
    metrics = run_files.load_metrics(path)
    return int(metrics["epoch"][-1]) if metrics else 0


class _Schedule:
    """The state of `run`: the status of every task, and the workers of those that run here."""

    def __init__(self, pool: devices.Pool, on_end: OnEnd, command: Sequence[str]) -> None:
        self._pool = pool
        self._on_end = on_end
        self._command = command
        self._statuses: dict[str, Status] = {}
        self._workers: dict[str, workers.Worker] = {}
        self._next_claim: dict[str, float] = {}
        self._old_failures: dict[epath.Path, str] = {}
        self._is_stopping = False
        self._told_of_devices = False

    @property
    def statuses(self) -> list[Status]:
        return list(self._statuses.values())

    def add(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._pool.require_fit(task.name, task.config)
            self._statuses[task.name] = Status(task)
            # Other commands may fail at this run from now on; what failed before is tried again.
            self._old_failures.setdefault(task.path, workers.read_failure(task.path))

    def is_over(self, is_stopping: bool) -> bool:
        left = [x for x in self._statuses.values() if x.state not in ENDED]
        return not self._workers and (is_stopping or not left)

    def reap(self) -> None:
        """Notes which workers have ended, and how."""
        for name, worker in list(self._workers.items()):
            status = self._statuses[name]
            status.seconds = worker.seconds
            code = worker.poll()
            if code is None:
                continue
            del self._workers[name]
            self._pool.give_back(worker.place)
            status.where = ""
            if code == 0:
                self._end(status, FINISHED)
            elif code in workers.STOPPED_CODES and self._is_stopping:
                status.state = STOPPED
            else:
                reason = worker.explain(code)
                workers.write_failure(status.task.path, reason)
                self._end(status, FAILED, reason)

    def pass_on(self, signals: Sequence[str]) -> None:
        """Tells the workers to save and stop at the first signal, and kills them at the second."""
        if len(signals) > 1:
            self.kill()
            interrupt.exit_at_once(0, None)
        if signals and not self._is_stopping:
            self._is_stopping = True
            logging.info(
                "%s: %d runs save and stop; send it again to end them at once",
                signals[0],
                len(self._workers),
            )
            for worker in self._workers.values():
                worker.stop()

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in self._workers.values():
            worker.kill()

    def start(self) -> None:
        """Starts the tasks that are ready while there are devices for them."""
        before = self._held()
        for status in self._ready():
            if time.monotonic() < self._next_claim.get(status.task.name, 0.0):
                continue
            place = self._pool.take(status.task.config)
            if place and not self._start_one(status, place):
                self._pool.give_back(place)
            elif not (place or self._workers or self._told_of_devices):
                logging.info("another command has all devices of this machine; waiting for one")
                self._told_of_devices = True
        new = [name for name in self._held() if name not in before]
        if new:
            logging.info("another command is at work on %s; waiting for it", ", ".join(new))

    def _held(self) -> list[str]:
        return [name for name, x in self._statuses.items() if x.state == HELD]

    def _ready(self) -> list[Status]:
        """Returns the tasks that may start, the longest first; fails those that can't ever."""
        ready = []
        for status in self.statuses:
            if status.state not in (WAITING, HELD):
                continue
            states = {name: self._statuses[name].state for name in status.task.needs}
            if failed := [name for name, state in states.items() if state in (FAILED, STOPPED)]:
                self._end(status, FAILED, f"it needs {failed[0]}, which failed")
            elif all(state == FINISHED for state in states.values()):
                ready.append(status)
        return sorted(ready, key=lambda status: -self._length(status.task))

    def _length(self, task: Task) -> int:
        """Returns the epochs of a task and of the longest chain of tasks that need it."""
        users = [x.task for x in self._statuses.values() if task.name in x.task.needs]
        return task.epochs + max(map(self._length, users), default=0)

    def _start_one(self, status: Status, place: devices.Place) -> bool:
        """Starts a task if it is free and not done yet; returns whether it was started."""
        task = status.task
        claim = workers.claim(task.path)
        if claim is None:
            status.state = HELD
            self._next_claim[task.name] = time.monotonic() + SECONDS_BETWEEN_CLAIMS
            return False
        with claim:
            try:
                if is_done(task):
                    self._end(status, FINISHED)
                    return False
                failure = workers.read_failure(task.path)
                if failure and failure != self._old_failures[task.path]:
                    self._end(status, FAILED, workers.reason_of(failure))
                    return False
                workdir.open_for(task.config, task.path)
            except (ValueError, OSError) as error:  # A damaged file, or a run of another config.
                self._end(status, FAILED, str(error))
                return False
            worker = workers.start(self._command, task.path, place, claim, task.until_epoch)
        self._workers[task.name] = worker
        status.state, status.where = RUNNING, place.name
        logging.info("%s: started on %s, log: %s", task.name, place.name, worker.log)
        return True

    def _end(self, status: Status, state: str, reason: str = "") -> None:
        was_held = status.state == HELD
        status.state, status.reason = state, reason
        name, until = status.task.name, status.task.until_epoch
        if state == FAILED:
            logging.error("%s: failed: %s", name, reason)
        elif status.seconds:
            did = "finished" if until is None else f"trained to epoch {until}"
            logging.info("%s: %s in %s", name, did, progress.duration(status.seconds))
        elif was_held:
            logging.info("%s: another command has finished it", name)
        self.add(self._on_end(status))


def failures(statuses: Sequence[Status]) -> Mapping[str, str]:
    """Returns name -> reason of the tasks that failed."""
    return {x.task.name: x.reason for x in statuses if x.state == FAILED}
