"""Successive halving: which runs of a sweep go on after each stop, as pure functions.

All runs train for a few epochs; the best by validation score go on, the others stop, and so on with
ever fewer runs and ever more epochs (Jamieson and Talwalkar, "Non-stochastic best arm
identification and hyperparameter optimization", 2016). That one run in `reduction` goes on, to
`reduction` times as many epochs, is as in Hyperband's brackets (Li et al., 2018).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Rung:
    """A stop of successive halving.

    Attributes:
        epochs: Epochs after which the runs are compared.
        num_runs: Number of runs that train so far.
    """

    epochs: int
    num_runs: int


@dataclasses.dataclass(frozen=True)
class History:
    """A run of a sweep so far.

    Attributes:
        epochs: Numbers of epochs after which the run was validated, ascending.
        scores: Its score after each of these, higher is better: that of the checkpoint which the
            run would select if it ended there.
        is_complete: True if training is over: all epochs are finished, or it stopped early.
        failure: The reason why the run failed; "" if it didn't.
    """

    epochs: Sequence[int] = ()
    scores: Sequence[float] = ()
    is_complete: bool = False
    failure: str = ""

    def has_reached(self, epochs: int) -> bool:
        """Returns whether there is nothing to train before the stop after `epochs`."""
        return bool(self.is_complete or self.failure or (self.epochs and self.epochs[-1] >= epochs))

    def score_at(self, epochs: int) -> float | None:
        """Returns the score at the stop after `epochs`; None for a failed run.

        A tiny split can finish several epochs in one step: the first validation at or after
        `epochs` counts. A run that ended earlier keeps its last score.
        """
        if self.failure or not self.scores:
            return None
        places = [place for place, epoch in enumerate(self.epochs) if epoch >= epochs]
        score = self.scores[places[0] if places else -1]
        return score if math.isfinite(score) else None


@dataclasses.dataclass(frozen=True)
class Place:
    """A run's place in a sweep that is decided.

    Attributes:
        name: Name of the run.
        epochs: Epochs of the stop at which it was last compared.
        score: Its score there; None if it failed.
        was_stopped: True if others went on instead; False for a failed run.
    """

    name: str
    epochs: int
    score: float | None
    was_stopped: bool


@dataclasses.dataclass(frozen=True)
class Standing:
    """The state of a sweep.

    Attributes:
        to_train: Name of a run -> epochs to which it must train next; {} if none must.
        winner: Name of the best run, once all others are out; None before, or if all failed. It may
            still have to train to the end.
        places: The runs, best first, once none must train: those that trained longer before those
            that were stopped, then by score. Failed runs are last. () before.
    """

    to_train: Mapping[str, int]
    winner: str | None
    places: tuple[Place, ...]


def make_rungs(num_runs: int, epochs: int, first_epochs: int, reduction: int) -> tuple[Rung, ...]:
    """Returns the stops of a sweep; the last is the end of training.

    Args:
        num_runs: Number of runs, 1 or more.
        epochs: Epochs of a whole run.
        first_epochs: Epochs before the first stop.
        reduction: One run in so many goes on, at least one; 0: all train to the end.
    """
    rungs = []
    while reduction and num_runs > 1 and first_epochs < epochs:
        rungs.append(Rung(first_epochs, num_runs))
        num_runs, first_epochs = max(num_runs // reduction, 1), first_epochs * reduction
    return (*rungs, Rung(epochs, num_runs))


def rank(scores: Mapping[str, float | None]) -> list[str]:
    """Returns the names by falling score; equal scores in the order given, None last."""
    return sorted(
        scores, key=lambda name: -math.inf if (x := scores[name]) is None else x, reverse=True
    )


def stand(rungs: Sequence[Rung], runs: Mapping[str, History]) -> Standing:
    """Returns which runs must train now, and how far; and the places of all runs.

    It is a function of the runs' histories alone, so that a sweep resumes from the files of its
    runs. A failed run counts as one that never went on: the next best has its place.

    Args:
        rungs: The stops, from `make_rungs`.
        runs: Name -> history, in the study's order.
    """
    racing = list(runs)
    stopped: list[Place] = []
    for rung, following in zip(rungs, (*rungs[1:], None), strict=True):
        behind = [name for name in racing if not runs[name].has_reached(rung.epochs)]
        if behind:
            winner = racing[0] if len(racing) == 1 and not following else None
            return Standing(dict.fromkeys(behind, rung.epochs), winner, ())
        scores = {name: runs[name].score_at(rung.epochs) for name in racing}
        able = [name for name in rank(scores) if scores[name] is not None]
        racing = able[: following.num_runs] if following else []
        places = [
            Place(name, rung.epochs, scores[name], bool(following and name in able))
            for name in rank(scores)
            if name not in racing
        ]
        stopped = places + stopped
    places = sorted(stopped, key=lambda place: place.score is None)
    winner = places[0].name if places[0].score is not None else None
    return Standing({}, winner, tuple(places))
