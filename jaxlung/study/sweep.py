"""The values of config fields that a sweep tries: a grid, or random draws."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

_DRAWS_PER_RUN = 100  # before a sweep is told that it has too few different values


class Distribution(Protocol):
    """A distribution of `scipy.stats` with its parameters, such as `loguniform(1e-4, 1e-2)`."""

    def rvs(self, *, random_state: np.random.Generator) -> Any:
        """Returns a random value."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The fields that a study varies, and the rule by which it stops losers early.

    Attributes:
        fields: Field -> the values to try, or a distribution of `scipy.stats` to draw them from:
            {"task.loss": ("bce", "dice"), "optimizer.learning_rate": stats.loguniform(1e-4, 1e-2)}.
        runs: Number of runs with random values (random search: Bergstra and Bengio, 2012); 0 for
            every combination of the values.
        seed: Seed of the random values. More runs begin with the same values as fewer.
        reduction: At each stop, one run in so many goes on, 2 or more; 0 trains all runs to the
            end. See `halving.make_rungs`.
        first_epochs: Epochs before the first stop.

    Raises:
        ValueError: an attribute is out of range, or a field has no values.
    """

    fields: Mapping[str, Sequence[Any] | Distribution]
    runs: int = 0
    seed: int = 0
    reduction: int = 0
    first_epochs: int = 1

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("sweep: got no fields, want one or more.")
        for name, least in (("runs", 0), ("seed", 0), ("first_epochs", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"sweep.{name}: got {value!r}, want a whole number from {least}.")
        if type(self.reduction) is not int or self.reduction < 0 or self.reduction == 1:
            raise ValueError(
                f"sweep.reduction: got {self.reduction!r}, want 0 or a whole number from 2."
            )
        for field, choices in self.fields.items():
            _check(field, choices, is_grid=self.runs == 0)


def _check(field: str, choices: Sequence[Any] | Distribution, *, is_grid: bool) -> None:
    """Raises ValueError if a field can't be varied by `choices`."""
    if hasattr(choices, "rvs"):
        if is_grid:
            raise ValueError(
                f"sweep: field {field} has a distribution, which needs runs=N; a grid (runs=0) "
                "needs a list of values."
            )
        return
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
        raise ValueError(
            f"sweep: field {field}: got {choices!r}, want a list of values or a distribution of "
            "scipy.stats."
        )
    if any(choices.count(value) > 1 for value in choices):
        raise ValueError(f"sweep: field {field}: got {choices!r}, want different values.")


def draw(sweep: Sweep) -> list[dict[str, Any]]:
    """Returns the values of each run, field -> value; no two runs have the same values.

    They depend on the sweep alone. Random numbers have three significant digits.

    Raises:
        ValueError: there are fewer combinations of values than runs.
    """
    if sweep.runs == 0:
        combinations = itertools.product(*sweep.fields.values())  # type: ignore[arg-type]  # checked
        return [dict(zip(sweep.fields, values, strict=True)) for values in combinations]
    np_rng = np.random.default_rng(sweep.seed)
    found: list[dict[str, Any]] = []
    for _ in range(_DRAWS_PER_RUN * sweep.runs):
        values = {field: _draw_one(choices, np_rng) for field, choices in sweep.fields.items()}
        if values not in found:
            found.append(values)
        if len(found) == sweep.runs:
            return found
    raise ValueError(
        f"sweep.runs: got {sweep.runs}, but the fields have only {len(found)} combinations of "
        "values; want fewer runs, or runs=0 for all combinations."
    )


def _draw_one(choices: Sequence[Any] | Distribution, np_rng: np.random.Generator) -> Any:
    if isinstance(choices, Sequence):
        return choices[int(np_rng.integers(len(choices)))]
    value = np.asarray(choices.rvs(random_state=np_rng)).item()
    return float(f"{value:.3g}") if isinstance(value, float) else value


def spell(values: Mapping[str, Any]) -> str:
    """Returns the values for readers: "learning_rate 0.001, loss dice"."""
    names = short_names(values)
    return ", ".join(f"{names[field]} {spell_value(value)}" for field, value in values.items())


def to_name(values: Mapping[str, Any]) -> str:
    """Returns the values for the name of a folder: "0.001-dice".

    It is short, as a screen shows many runs by their names, a line each.
    """
    parts = (re.sub(r"[^\w.=-]+", "_", spell_value(value)) for value in values.values())
    return "-".join(part.strip("_") for part in parts)


def short_names(fields: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Returns field -> its last part, "learning_rate", or the whole field if two share that."""
    ends = [field.rpartition(".")[2] for field in fields]
    return {
        field: end if ends.count(end) == 1 else field
        for field, end in zip(fields, ends, strict=True)
    }


def spell_value(value: Any) -> str:
    """Returns a value of a field for readers: "0.001", "dice", "8x16x32"."""
    if isinstance(value, float):
        return f"{value:g}"
    return "x".join(map(spell_value, value)) if isinstance(value, tuple | list) else str(value)
