"""Timing several things in turn, so that what else the machine does meets all of them."""

import time
from collections.abc import Callable, Mapping

from jaxlung.parallel import distributed

REPEATS = (5, 20)  # at least, for slow dispatches; at most


def measure(
    passes: Mapping[str, Callable[[int], None]],
    seconds: float,
    settle: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Measures each of `passes` again and again, one after the other.

    Args:
        passes: name -> does so many dispatches and waits for them.
        seconds: that all repeats of one together take, about; a repeat is at least one dispatch.
        settle: throws away what was made ready while others ran; one dispatch after it doesn't
            count. None if nothing is.

    Returns:
        Seconds per dispatch of every repeat, by name; repeat i of one was beside repeat i of the
        others.
    """
    # The first dispatch warms up. All processes must do as many.
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
