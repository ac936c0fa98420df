"""Successive halving: rungs by hand, who goes on, ties, failures; resumed at any moment."""

import math

import pytest

from jaxlung.study import halving

Rung, History = halving.Rung, halving.History


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ((8, 30, 4, 3), [(4, 8), (12, 2), (30, 1)]),
        ((81, 81, 1, 3), [(1, 81), (3, 27), (9, 9), (27, 3), (81, 1)]),  # Li et al., Table 1, s = 4
        ((16, 16, 2, 2), [(2, 16), (4, 8), (8, 4), (16, 2)]),
        ((8, 30, 4, 0), [(30, 8)]),  # No stops.
        ((2, 30, 4, 3), [(4, 2), (30, 1)]),  # One goes on at least.
        ((1, 30, 4, 3), [(30, 1)]),
        ((8, 4, 4, 3), [(4, 8)]),  # The first stop is the end.
    ],
)
def test_rungs_are_those_worked_by_hand(settings, want):
    assert halving.make_rungs(*settings) == tuple(Rung(*each) for each in want)


def test_equal_scores_keep_their_order_and_failed_runs_are_last():
    scores = {"a": 0.5, "failed": None, "b": 0.7, "c": 0.5, "d": 0.7}
    assert halving.rank(scores) == ["b", "d", "a", "c", "failed"]


def history(scores, **fields):
    return History(tuple(range(1, len(scores) + 1)), tuple(scores), **fields)


RUNGS = (Rung(1, 4), Rung(2, 2), Rung(4, 1))
CURVES = {  # What each run would score after each epoch, if it were trained that long.
    "late": [0.1, 0.6, 0.8, 0.99],
    "good": [0.5, 0.6, 0.7, 0.8],
    "best": [0.4, 0.7, 0.8, 0.9],
    "poor": [0.4, 0.3, 0.2, 0.1],
}


def play(curves, failures=()):
    """Trains what `stand` asks for, a run at a time; returns all that was asked, and the end."""
    runs = {name: History() for name in curves}
    asked = []
    while (standing := halving.stand(RUNGS, runs)).to_train:
        name, epochs = next(iter(standing.to_train.items()))
        assert len(runs[name].epochs) < epochs
        asked.append((name, epochs))
        failure = "loss is nan" if (name, epochs) in failures else ""
        runs[name] = history(curves[name][:epochs], is_complete=epochs == 4, failure=failure)
    return asked, standing


def test_the_best_go_on_and_the_order_breaks_ties():
    asked, standing = play(CURVES)
    # "best" and "poor" are equal after the first epoch.
    first = [(name, 1) for name in CURVES]
    assert asked == [*first, ("good", 2), ("best", 2), ("best", 4)]
    assert standing.winner == "best"
    assert standing.places == (
        halving.Place("best", 4, 0.9, False),
        halving.Place("good", 2, 0.6, True),
        halving.Place("poor", 1, 0.4, True),
        halving.Place("late", 1, 0.1, True),
    )


def test_the_next_best_run_gets_the_place_of_one_that_fails():
    asked, standing = play(CURVES, failures={("best", 2)})
    assert asked[4:] == [("good", 2), ("best", 2), ("poor", 2), ("good", 4)]
    assert standing.winner == "good"
    assert [place.name for place in standing.places] == ["good", "poor", "late", "best"]
    assert standing.places[-1] == halving.Place("best", 1, None, False)


def test_fewer_able_runs_than_places_go_on_alone():
    failures = {(name, 1) for name in ("late", "best", "poor")}
    asked, standing = play(CURVES, failures)
    assert asked[4:] == [("good", 2), ("good", 4)]
    assert standing.winner == "good"


def test_a_sweep_whose_runs_all_fail_has_no_winner():
    asked, standing = play(CURVES, {(name, 1) for name in CURVES})
    assert len(asked) == 4
    assert standing.winner is None
    assert [place.score for place in standing.places] == [None] * 4


def test_who_goes_on_does_not_depend_on_how_far_runs_have_come():
    """Longer histories, as of a sweep that had no stops before, change no decision."""
    runs = {name: history(curve, is_complete=True) for name, curve in CURVES.items()}
    standing = halving.stand(RUNGS, runs)
    assert standing == play(CURVES)[1]
    assert standing.winner == "best"  # Though "late" is better after 4 epochs.


def test_the_winner_is_known_before_its_last_epochs():
    runs = {name: history(curve[:2]) for name, curve in CURVES.items()}
    standing = halving.stand(RUNGS, runs)
    assert (standing.to_train, standing.winner, standing.places) == ({"best": 4}, "best", ())
    two_at_the_end = (Rung(1, 4), Rung(4, 2))
    standing = halving.stand(two_at_the_end, runs)
    assert (standing.to_train, standing.winner) == ({"good": 4, "best": 4}, None)


def test_runs_of_a_stop_may_train_at_the_same_time():
    standing = halving.stand(RUNGS, dict.fromkeys(CURVES, History()))
    assert standing.to_train == dict.fromkeys(CURVES, 1)
    assert standing.winner is None


def test_a_run_that_ended_early_keeps_its_last_score():
    early = history([0.5, 0.9], is_complete=True)
    assert early.has_reached(4)
    assert early.score_at(4) == 0.9
    assert early.score_at(1) == 0.5


def test_steps_that_finish_several_epochs_count_at_the_next_validation():
    tiny = History((5, 10), (0.5, 0.9))
    assert (tiny.score_at(4), tiny.score_at(5), tiny.score_at(6)) == (0.5, 0.5, 0.9)
    assert tiny.has_reached(10)
    assert not tiny.has_reached(11)


def test_a_score_that_is_no_number_is_none():
    assert History((1,), (math.nan,)).score_at(1) is None
    assert History(failure="no such file").score_at(1) is None
