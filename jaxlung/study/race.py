"""The runs of a sweep, trained from stop to stop until one is the best, side by side."""

from collections.abc import Mapping

import ml_collections as mlc
from absl import logging
from etils import epath

from jaxlung.study import halving, histories, schedule, sweep_results, workers
from jaxlung.study import sweep as sweep_lib


class Race:
    """The tasks of a sweep: training from stop to stop, then the whole job of the best run.

    Args:
        sweep: The sweep.
        configs: Name of a run -> its config.
        path: The study's folder.

    Attributes:
        failures: Name of a run that failed, and so is out -> the reason.
    """

    def __init__(
        self, sweep: sweep_lib.Sweep, configs: Mapping[str, mlc.ConfigDict], path: epath.Path
    ) -> None:
        self._rungs = sweep_results.make_rungs(sweep, configs)
        self._configs = configs
        self._path = path
        self._waits_for: set[str] = set()
        self.failures: dict[str, str] = {}

    def next_tasks(self) -> list[schedule.Task]:
        """Returns the tasks that are next once none is left; [] if all runs failed.

        None of them needs another. Only the best run is scored on all splits.
        """
        runs = sweep_results.load_histories(self._configs, self._path, self.failures)
        standing = halving.stand(self._rungs, runs)
        if standing.winner:
            tasks = [self._make_task(standing.winner)]
            logging.info("sweep: the best run is %s", standing.winner)
        else:
            tasks = [self._make_task(*task) for task in standing.to_train.items()]
            for epochs in set(standing.to_train.values()):  # One, if any.
                logging.info("sweep: %d of %d runs to epoch %d", len(tasks), len(runs), epochs)
        self._waits_for = {task.name for task in tasks}
        return tasks

    def on_end(self, status: schedule.Status) -> list[schedule.Task]:
        """Notes that a task has finished or failed; returns what is next if none is left.

        A run that fails while it trains is out. One that was killed has shown nothing: nothing more
        is decided without it, in this process.
        """
        name = status.task.name
        if workers.was_killed(status.reason):
            return []
        self._waits_for.discard(name)
        if status.state == schedule.FAILED and not self._is_trained(name):
            self.failures[name] = status.reason
        elif status.task.until_epoch is None:
            return []
        return [] if self._waits_for else self.next_tasks()

    def _is_trained(self, name: str) -> bool:
        return histories.load(self._path / "runs" / name, self._configs[name]).is_complete

    def require_winner(self) -> None:
        """Raises ValueError if all runs failed; gives the reason of the first."""
        if len(self.failures) == len(self._configs):
            name, reason = next(iter(self.failures.items()))
            raise ValueError(f"study: all {len(self.failures)} runs failed; {name}: {reason}")

    def _make_task(self, name: str, until_epoch: int | None = None) -> schedule.Task:
        folder = self._path / "runs" / name
        return schedule.Task(name, self._configs[name], folder, until_epoch)
