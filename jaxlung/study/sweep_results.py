"""Results of a decided sweep: every run with its values, its score and what became of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections as mlc
from etils import epath

from jaxlung.host import csv_text
from jaxlung.study import halving, histories, importance
from jaxlung.study import study as study_lib
from jaxlung.study import sweep as sweep_lib


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run of a sweep.

    Attributes:
        run: The run's entry in the study.
        values: Field of the sweep -> the run's value.
        epochs: Number of epochs that it trained.
        score: Its validation score at the last comparison; None if it failed.
        first_score: Its validation score at the first comparison, which all runs have; None if it
            failed.
        state: "best", "trained" to the end, "stopped" or "failed".
        failure: The reason why it failed, or "".
    """

    run: study_lib.Run
    values: Mapping[str, Any]
    epochs: int
    score: float | None
    first_score: float | None
    state: str
    failure: str


@dataclasses.dataclass(frozen=True)
class SweepResults:
    """The results of a sweep.

    Attributes:
        outcomes: The runs, best first.
        effects: The effect of each field, the largest first, at the first comparison. Means are
            validation scores.
        rungs: The stops.
        key: Key of the score: "loss", where lower is better, or a score, where higher is.
    """

    outcomes: tuple[Outcome, ...]
    effects: tuple[importance.Effect, ...]
    rungs: tuple[halving.Rung, ...]
    key: str

    @property
    def first_epochs(self) -> int:
        """Number of epochs after which all runs are compared."""
        return self.rungs[0].epochs

    @property
    def num_epochs(self) -> int:
        """Number of epochs of all runs together."""
        return sum(outcome.epochs for outcome in self.outcomes)


def make(
    study: study_lib.Study,
    configs: Mapping[str, mlc.ConfigDict],
    path: epath.Path,
    failures: Mapping[str, str],
) -> SweepResults:
    """Reads the results of a decided sweep from the folders of its runs.

    Args:
        study: The study.
        configs: Name of a run -> its config.
        path: The study's folder.
        failures: Name of a failed run -> the reason.
    """
    assert study.sweep
    by_name = {run.name: run for run in study.runs}
    runs = load_histories(configs, path, failures)
    rungs = make_rungs(study.sweep, configs)
    standing = halving.stand(rungs, runs)
    winner = standing.winner
    assert winner, standing
    key = histories.score_key(configs[winner], path / "runs" / winner)
    sign = -1 if key == "loss" else 1
    return SweepResults(
        outcomes=tuple(
            Outcome(
                run=by_name[place.name],
                values=values_of(study.sweep, by_name[place.name]),
                epochs=max(runs[place.name].epochs, default=0),
                score=_with_sign(sign, place.score),
                first_score=_with_sign(sign, runs[place.name].score_at(rungs[0].epochs)),
                state=_state(place, winner),
                failure=runs[place.name].failure,
            )
            for place in standing.places
        ),
        effects=_measure(study.sweep, by_name, runs, rungs[0].epochs, sign),
        rungs=rungs,
        key=key,
    )


def load_histories(
    configs: Mapping[str, mlc.ConfigDict], path: epath.Path, failures: Mapping[str, str]
) -> dict[str, halving.History]:
    """Returns the history of each run, by name."""
    return {
        name: histories.load(path / "runs" / name, config, failures.get(name, ""))
        for name, config in configs.items()
    }


def make_rungs(
    sweep: sweep_lib.Sweep, configs: Mapping[str, mlc.ConfigDict]
) -> tuple[halving.Rung, ...]:
    """Returns the stops of a sweep whose runs have these configs."""
    epochs = max(config.epochs for config in configs.values())
    return halving.make_rungs(len(configs), epochs, sweep.first_epochs, sweep.reduction)


def values_of(sweep: sweep_lib.Sweep, run: study_lib.Run) -> dict[str, Any]:
    """Returns field of the sweep -> the run's value."""
    return {field: run.overrides[field] for field in sweep.fields}


def _with_sign(sign: int, score: float | None) -> float | None:
    return None if score is None else sign * score


def _state(place: halving.Place, winner: str) -> str:
    if place.name == winner:
        return "best"
    if place.score is None:
        return "failed"
    return "stopped" if place.was_stopped else "trained"


def _measure(
    sweep: sweep_lib.Sweep,
    by_name: Mapping[str, study_lib.Run],
    runs: Mapping[str, halving.History],
    epochs: int,
    sign: int,
) -> tuple[importance.Effect, ...]:
    values = [values_of(sweep, run) for run in by_name.values()]
    scores = [runs[name].score_at(epochs) for name in by_name]
    return tuple(
        dataclasses.replace(
            effect,
            groups=tuple(
                dataclasses.replace(group, mean=_with_sign(sign, group.mean))
                for group in effect.groups
            ),
        )
        for effect in importance.measure(values, scores)
    )


def to_csv(found: SweepResults) -> str:
    """Returns a line per run, best first: its values, epochs, validation score and state."""
    fields = list(found.outcomes[0].values)
    score = f"validation_{found.key}"
    lines: list[Sequence[Any]] = [
        ["place", "run", "config", *fields, "epochs", score, "state", "failure"]
    ]
    for place, x in enumerate(found.outcomes, 1):
        values = map(sweep_lib.spell_value, x.values.values())
        end = (x.epochs, x.score, x.state, x.failure)
        lines.append([place, x.run.name, x.run.config, *values, *end])
    return csv_text.to_text(lines)
