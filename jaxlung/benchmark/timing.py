"""Measures several things in turn, so that other load on the machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping

from jaxlung.parallel import distributed

REPEATS = (5, 20)  # fewest, for slow dispatches; most


def measure(
    passes: Mapping[str, Callable[[int], None]],
    seconds: float,
    settle: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Measures each of `passes` several times, taking turns.

    Args:
        passes: name -> function that runs a given number of dispatches and waits for them.
        seconds: approximate time for all repeats of one pass. A repeat is at least one dispatch.
        settle: called before each repeat to drop what was prepared while other passes ran. One
            dispatch after it isn't counted either. None if nothing is prepared.

    Returns:
        Name -> seconds per dispatch in every repeat. Repeats of one index were measured together.
    """
    # The first dispatch warms up. All processes must run the same number of dispatches.
    warm = distributed.tell_all({name: _time(run, 1) for name, run in passes.items()})
    repeats = max(REPEATS[0], min(REPEATS[1], int(seconds / max(warm.values()))))
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(repeats):
        for name, run in passes.items():
            if settle:
                settle()
                run(1)
            count = max(1, round(seconds / repeats / warm[name]))
            times[name].append(_time(run, count) / count)
    return times


def _time(run: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start
