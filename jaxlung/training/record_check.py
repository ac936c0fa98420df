"""A look at every record before training: that it can be decoded, and shows what is looked for."""

import collections
import concurrent.futures
from collections.abc import Callable, Mapping

import numpy as np
from absl import logging

from jaxlung.data import record
from jaxlung.host import progress
from jaxlung.tasks import task as task_lib

# Group and split -> for every record whether it shows what the task looks for.
Found = dict[tuple[str, str], list[bool]]


def check(
    splits: Mapping[str, record.Source],
    task: task_lib.Task,
    num_threads: int,
    may_lack: Callable[[str], bool],
) -> None:
    """Decodes everything once, so that a bad file is told now and not after training.

    Logs how many records of every group, a user's folder or a diagnosis, and of every split show
    what the task looks for.

    Args:
        splits: the records, by name.
        task: what it looks for.
        num_threads: that decode.
        may_lack: tells by its name if a group may do without.

    Raises:
        ValueError: a file is damaged (named); no training record has what the task looks for, or
            none of a group that should.
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
