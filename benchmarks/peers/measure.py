"""Two sides timed in turn, and the table of what came out."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Callable[[int], Mapping[str, Any]]  # steps -> the "seconds" and "steps" that it took


def alternate(
    ours: Run, theirs: Run, batch_size: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """Runs both sides in turn, `repeats` times, the first of a pair changing each time.

    Args:
        ours: jaxlung's.
        theirs: PyTorch's.
        batch_size: images, or patches, of a step.
        seconds: that each run lasts, about.
        repeats: pairs.

    Returns:
        See `summarise`.
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


def _steps_for(run: Run, seconds: float) -> int:
    """Steps that last about `seconds`, from two shorter runs."""
    answer = run(1)
    for share in (0.1, 0.5):
        each = answer["seconds"] / answer["steps"]
        answer = run(max(1, math.ceil(share * seconds / each)))
    return max(1, math.ceil(seconds * answer["steps"] / answer["seconds"]))


def summarise(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Pairs of rates, ours and theirs, per second.

    Returns:
        "jax" and "torch": median, least and most; "ratio", the same of ours over theirs pair by
        pair: what disturbs the machine for long disturbs both of a pair. And the "pairs".
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
    """Markdown: a row per case, input and mode; those that could not run have their reason."""
    lines = [
        "| case | input | PyTorch mode | jaxlung, per s | PyTorch, per s | jaxlung / PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['case']} | {row['source']} | {row['mode']} "
        if "error" in row:
            what = row["error"].replace("|", "/")
            lines.append(f"{start}| not run: {what} | | |")
            continue
        ours, theirs = (_cell(row[side], 1) for side in ("jax", "torch"))
        lines.append(f"{start}| {ours} | {theirs} | {_cell(row['ratio'], 2)} |")
    return "\n".join(lines)


def _cell(spread: Mapping[str, float], digits: int) -> str:
    median, least, most = (f"{spread[k]:,.{digits}f}" for k in ("median", "least", "most"))
    return f"{median} ({least} to {most})"
