"""Checks every record before training: it can be decoded, and shows what the task looks for."""

import collections
import concurrent.futures
from collections.abc import Callable, Mapping

import numpy as np
from absl import logging

from jaxlung.data import record
from jaxlung.host import progress
from jaxlung.tasks import task as task_lib

# (group, split) -> for every record, True if it shows what the task looks for.
Found = dict[tuple[str, str], list[bool]]


def check(
    splits: Mapping[str, record.Source],
    task: task_lib.Task,
    num_threads: int,
    may_lack: Callable[[str], bool],
) -> None:
    """Decodes every record once, so that a bad file is reported now and not after training.

    Logs how many records of every group (a user's folder or a diagnosis) and of every split show
    what the task looks for.

    Args:
        splits: records of each split, by name.
        task: task that is trained.
        num_threads: number of threads that decode.
        may_lack: returns True for the name of a group whose records need not show anything.

    Raises:
        ValueError: a file is damaged (the message names it), or no training record, or none of a
            group that should, shows what the task looks for.
    """
    found = _look(splits, task, num_threads)
    _log(found, "masks with foreground" if task.is_map else f"{task.records} with {_wanted(task)}")
    in_training = [has for (_, split), each in found.items() if split == "train" for has in each]
    if not any(in_training):
        raise ValueError(
            f"data: none of the {len(in_training)} training {task.records} has {_wanted(task)}."
        )
    for group in {group: None for group, _ in found}:
        ours = [has for (other, _), each in found.items() if other == group for has in each]
        if not any(ours) and not may_lack(group):
            raise ValueError(
                f"data: none of the {len(ours)} {task.records} of {group} has {_wanted(task)}; "
                "correct its masks, or, if a folder of your own shows none, name it in "
                "--config.data.negative_roots."
            )


def _look(splits: Mapping[str, record.Source], task: task_lib.Task, num_threads: int) -> Found:
    def look(item: record.Record) -> tuple[str, bool]:
        levels = task.true_levels(item.mask[None], np.array([item.label]))
        return item.group, bool(levels.any())

    found: Found = collections.defaultdict(list)
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for name, source in splits.items():
            looks = pool.map(lambda index, source=source: look(source[index]), range(len(source)))
            for group, has in progress.report(looks, f"checking {name}", task.records, len(source)):
                found[group, name].append(has)
    return found


def _log(found: Found, what: str) -> None:
    counts: dict[str, list[str]] = collections.defaultdict(list)
    for (group, split), each in found.items():
        counts[group].append(f"{split} {sum(each)} of {len(each)}")
    groups = (f"{group}: " * bool(group) + ", ".join(counts[group]) for group in sorted(counts))
    logging.info("%s: %s", what, "; ".join(groups))


def _wanted(task: task_lib.Task) -> str:
    return " or ".join(task.levels[1:])
