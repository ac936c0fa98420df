"""The states of a study's runs as a table that fits a terminal, and as sentences for a log."""

from collections.abc import Sequence

from jaxlung.host import console, progress
from jaxlung.study import watch

HEADS = ("run", "epoch", "loss", "score", "images/s", "left", "state")
TEXTS = ("run", "state")  # The other columns are numbers.
GIVEN_UP = ("images/s", "loss", "score", "epoch", "left")  # in this order, on narrow terminals
ENOUGH = 20  # characters of a state that are worth a column of numbers
# Kinds of runs, those that matter most first.
URGENT = ("failed", "silent", "running", "stopped", "waiting", "stopped early", "finished")
_GAP = "  "


def describe(state: watch.State) -> str:
    """Returns a run's state as the rest of a sentence."""
    cells = dict(zip(HEADS, to_cells(state), strict=True))
    score = state.found.score_name.replace("_", " ") or "score"
    parts = {
        "state": "{}",
        "epoch": "epoch {}",
        "loss": "loss {}",
        "score": f"validation {score} {{}}",
        "images/s": "{} images/s",
        "left": "{} left",
    }
    return ", ".join(text.format(cells[head]) for head, text in parts.items() if cells[head])


def describe_all(states: Sequence[watch.State]) -> str:
    """Returns how many runs are done, and the time that is left for all."""
    kinds = watch.count(states)
    parts = [f"{kinds.pop('finished', 0)} of {len(states)} runs finished"]
    left = watch.estimate_seconds_left(states)
    if left is not None:
        parts.append(f"about {progress.duration(left)} left")
    return ", ".join(parts + [f"{kinds[kind]} {kind}" for kind in URGENT if kind in kinds])


def to_cells(state: watch.State) -> list[str]:
    """Returns a run's cells below `HEADS`; "" for what isn't known, or doesn't hold any more."""
    found, is_running = state.found, state.kind == "running"
    left = found.seconds_left if is_running else None
    speed = found.images_per_s if is_running else None
    where = f" ({found.where})" if found.where and state.kind in ("running", "silent") else ""
    return [
        state.name,
        f"{found.epoch}/{found.epochs}" if found.epochs else "",
        _number(found.loss, ".4f"),
        _number(found.score, ".4f"),
        _number(speed, ",.1f"),
        progress.duration(left) if left is not None else "",
        console.on_one_line(f"{state.text}{where}"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def draw(states: Sequence[watch.State], width: int, height: int) -> list[str]:
    """Returns the lines of the table: heads, a line per run, and one for all.

    Args:
        states: The runs.
        width: Characters of a line at most. What doesn't fit is given up column by column.
        height: Number of lines at most. The runs that matter most are shown.
    """
    shown, rest = choose(states, max(height - 2, 2))
    names = {state.found.score_name for state in states} - {""}
    heads = list(HEADS)
    if len(names) == 1:
        heads[HEADS.index("score")] = f"val. {names.pop().replace('_', ' ')}"
    rows = [heads, *map(to_cells, shown)]
    lines = fit(rows, width)
    if rest:
        kinds = [f"{number} {kind}" for kind, number in watch.count(rest).items()]
        lines.append(clip(f"and {len(rest)} more: {', '.join(kinds)}", width))
    return [*lines, clip(describe_all(states), width)]


def choose(
    states: Sequence[watch.State], most: int
) -> tuple[Sequence[watch.State], Sequence[watch.State]]:
    """Returns the runs to show in their order, on `most` lines, and those that are left out."""
    if len(states) <= most:
        return states, ()
    ranks = sorted(range(len(states)), key=lambda i: URGENT.index(states[i].kind))
    kept = set(ranks[: max(most - 1, 0)])  # A line says what is left out.
    return (
        [state for i, state in enumerate(states) if i in kept],
        [state for i, state in enumerate(states) if i not in kept],
    )


def fit(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns rows as lines of equal columns, without the columns that don't fit the width."""
    columns = dict(zip(HEADS, zip(*rows, strict=True), strict=True))
    for head in [head for head, cells in columns.items() if not any(cells[1:])]:
        del columns[head]
    sizes = {head: max(map(len, cells)) for head, cells in columns.items()}
    sizes["state"] = min(sizes["state"], ENOUGH)  # It is the last: what is longer is cut.
    for head in GIVEN_UP:
        if sum(sizes.values()) + len(_GAP) * (len(sizes) - 1) > width:
            sizes.pop(head, None)
    aligned = [
        [f"{cell:{'<' if head in TEXTS else '>'}{size}}" for cell in columns[head]]
        for head, size in sizes.items()
    ]
    return [clip(_GAP.join(line).rstrip(), width) for line in zip(*aligned, strict=True)]


def clip(text: str, width: int) -> str:
    """Returns a text of at most `width` characters, with an ellipsis where it was cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "\N{HORIZONTAL ELLIPSIS}"
