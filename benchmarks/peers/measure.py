"""Times two sides in turn and makes the table of results."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import page

Run = Callable[[int], Mapping[str, Any]]  # steps -> "seconds" and "steps" that were taken


def alternate(
    ours: Run, theirs: Run, batch_size: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """Runs both sides in turn, `repeats` times; the side that goes first changes each time.

    Args:
        ours: runs jaxlung's side.
        theirs: runs PyTorch's side.
        batch_size: images or patches per step.
        seconds: approximate time of each run.
        repeats: number of pairs of runs.

    Returns:
        The result of `summarise`.
    """
    runs = (ours, theirs)
    steps = [_steps_for(run, seconds) for run in runs]
    pairs = []
    for repeat in range(repeats):
        rates = [0.0, 0.0]
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            answer = runs[side](steps[side])
            rates[side] = batch_size * answer["steps"] / answer["seconds"]
        pairs.append((rates[0], rates[1]))
    return summarise(pairs)


def alone(run: Run, batch_size: int, seconds: float, repeats: int) -> dict[str, float]:
    """Runs one side `repeats` times; returns the median, least and most of its rates."""
    steps = _steps_for(run, seconds)
    answers = [run(steps) for _ in range(repeats)]
    return _spread([batch_size * answer["steps"] / answer["seconds"] for answer in answers])


def _steps_for(run: Run, seconds: float) -> int:
    """Returns the number of steps that take about `seconds`, from two shorter runs."""
    answer = run(1)
    for share in (0.1, 0.5):
        each = answer["seconds"] / answer["steps"]
        answer = run(max(1, math.ceil(share * seconds / each)))
    return max(1, math.ceil(seconds * answer["steps"] / answer["seconds"]))


def summarise(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Summarises pairs of rates, ours and theirs, per second.

    Returns:
        "jax", "torch" and "ratio", each with the median, the least and the most; and the "pairs".
        Ratios are taken in each pair, because long disturbances of the machine slow both sides of
        a pair.
    """
    ours, theirs = zip(*pairs, strict=True)
    ratios = [a / b for a, b in pairs]
    return {
        "jax": _spread(ours),
        "torch": _spread(theirs),
        "ratio": _spread(ratios),
        "pairs": [list(pair) for pair in pairs],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns Markdown with a row for each case, input and mode; failed ones give the reason."""
    return page.table([_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"case": row["case"], "input": row["source"], "PyTorch mode": row["mode"]}
    if "error" in row:
        return cells | {"jaxlung, per s": f"not run: {row['error']}"}
    return cells | {
        "jaxlung, per s": page.with_range(**row["jax"], spec=",.1f"),
        "PyTorch, per s": page.with_range(**row["torch"], spec=",.1f"),
        "jaxlung / PyTorch": page.with_range(**row["ratio"], spec=",.2f"),
    }
