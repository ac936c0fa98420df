"""The values that a sweep tries: the whole grid, or draws from its seed alone."""

import re

import numpy as np
import pytest
from scipy import stats

from jaxlung.study import sweep

LOSSES = ("bce", "dice")


def test_a_grid_has_every_combination_once_in_order():
    made = sweep.Sweep(fields={"task.loss": LOSSES, "model.widths": ((4, 8), (8, 16), (2,))})
    got = [tuple(values.values()) for values in sweep.draw(made)]
    assert got == [(loss, widths) for loss in LOSSES for widths in ((4, 8), (8, 16), (2,))]


def random_sweep(**changes):
    fields = {"optimizer.learning_rate": stats.loguniform(1e-4, 1e-2), "task.loss": LOSSES}
    return sweep.Sweep(**{"fields": fields, "runs": 6} | changes)


def test_draws_depend_on_the_seed_alone_and_more_runs_begin_with_the_same():
    got = sweep.draw(random_sweep())
    np.random.default_rng().random()
    assert sweep.draw(random_sweep()) == got
    assert sweep.draw(random_sweep(runs=9))[:6] == got
    assert sweep.draw(random_sweep(seed=1)) != got


def test_draws_follow_their_distribution_and_are_short_plain_numbers():
    fields = {
        "a": stats.loguniform(1e-4, 1e-2),
        "b": stats.randint(2, 9),
        "c": ("x", "y", "z"),
    }
    got = sweep.draw(sweep.Sweep(fields=fields, runs=300))
    rates = [values["a"] for values in got]
    assert all(type(rate) is float and 1e-4 <= rate <= 1e-2 for rate in rates)
    assert all(float(f"{rate:.3g}") == rate for rate in rates)
    assert stats.kstest(np.log10(rates), "uniform", (-4, 2)).pvalue > 0.01
    assert {type(values["b"]) for values in got} == {int}
    assert {values["b"] for values in got} == set(range(2, 9))
    counts = [sum(values["c"] == name for values in got) for name in "xyz"]
    assert stats.chisquare(counts).pvalue > 0.01


def test_no_two_draws_are_the_same():
    made = sweep.Sweep(fields={"task.loss": LOSSES, "seed": (0, 1, 2)}, runs=6)
    got = sweep.draw(made)
    assert len({tuple(values.values()) for values in got}) == 6
    with pytest.raises(ValueError, match=r"runs: got 7, but the fields have only 6 combinations"):
        sweep.draw(sweep.Sweep(fields=made.fields, runs=7))


def test_values_are_told_in_names_and_labels():
    values = {"optimizer.learning_rate": 1e-05, "model.widths": (8, 16), "freeze": "a/.*|b"}
    assert sweep.spell(values) == "learning_rate 1e-05, widths 8x16, freeze a/.*|b"
    name = sweep.to_name(values)
    assert name == "1e-05-8x16-a_._b"
    assert re.fullmatch(r"\w[\w.=-]*", name)


def test_fields_that_end_alike_are_told_whole():
    assert sweep.spell({"model.dropout": 0.5, "task.dropout": 0.1}) == (
        "model.dropout 0.5, task.dropout 0.1"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "got no fields"),
        ({"fields": {"task.loss": "bce"}}, "field task.loss: got 'bce', want a list"),
        ({"fields": {"task.loss": ()}}, r"field task.loss: got \(\), want a list"),
        ({"fields": {"task.loss": ("bce", "bce")}}, "want different values"),
        ({"fields": {"seed": 3}}, "field seed: got 3, want a list"),
        ({"runs": 0}, "learning_rate has a distribution, which needs runs=N"),
        ({"runs": -1}, "sweep.runs: got -1, want a whole number from 0"),
        ({"runs": 2.0}, r"sweep.runs: got 2\.0"),
        ({"seed": -1}, "sweep.seed: got -1"),
        ({"reduction": 1}, "sweep.reduction: got 1, want 0 or a whole number from 2"),
        ({"first_epochs": 0}, "sweep.first_epochs: got 0, want a whole number from 1"),
    ],
)
def test_a_sweep_that_can_not_be_says_so(changes, message):
    with pytest.raises(ValueError, match=message):
        random_sweep(**changes)
