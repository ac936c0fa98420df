"""The order of records in a run: a pure function of (seed, position).

Positions count records from the start of training, 0, 1, 2, ...; step s of batch size B takes
the positions [s B, (s + 1) B). Both feeds read records through these functions, so they give
the same batches, and a resumed run needs only its step.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

Order = Callable[[int], int]


def shuffled(seed: int, num_records: int) -> Order:
    """Returns an order with a new permutation every epoch, each record exactly once in it.

    A batch may begin in one epoch and end in the next, so that all batches are full and no record
    is dropped.

    Args:
        seed: the run's seed.
        num_records: number of records in the split.

    Returns:
        A function from position to record index.
    """

    @functools.lru_cache(maxsize=4)
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(num_records)

    def record_at(position: int) -> int:
        epoch, offset = divmod(position, num_records)
        return int(permutation(epoch)[offset])

    return record_at


def in_turn(num_records: int) -> Order:
    """Returns the order of the split itself; positions past the end repeat the last record."""
    return lambda position: min(position, num_records - 1)


def steps_after_epochs(epochs: int, num_records: int, batch_size: int) -> int:
    """Returns the number of steps until every record was seen `epochs` times."""
    return -(-epochs * num_records // batch_size)


def epochs_after(step: int, num_records: int, batch_size: int) -> int:
    """Returns the number of epochs that are complete after `step` steps."""
    return step * batch_size // num_records


def dispatches(
    first_step: int, total_steps: int, num_records: int, batch_size: int, steps_per_dispatch: int
) -> Iterator[range]:
    """Yields the steps from `first_step` on, in groups that are sent to the device together.

    A group has `steps_per_dispatch` steps while the epoch has that many left, then one step. So no
    group crosses the end of an epoch, and only two sizes of group are compiled.
    """
    step = first_step
    while step < total_steps:
        epoch = epochs_after(step, num_records, batch_size) + 1
        left = min(steps_after_epochs(epoch, num_records, batch_size), total_steps) - step
        count = steps_per_dispatch if left >= steps_per_dispatch else 1
        yield range(step, step + count)
        step += count


def one_by_one(first_step: int, last_step: int) -> Iterator[range]:
    """Returns dispatches of one step each, as `dispatches` does for several."""
    return (range(step, step + 1) for step in range(first_step, last_step))


def positions(steps: range, batch_size: int) -> np.ndarray:
    """Returns the positions of all examples of some steps, [K, B] int64."""
    return np.arange(steps.start * batch_size, steps.stop * batch_size).reshape(-1, batch_size)
