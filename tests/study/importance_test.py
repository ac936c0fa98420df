"""What mattered in a sweep, against SciPy's Kruskal-Wallis test and cases worked by hand."""

import numpy as np
import pytest
from scipy import stats

from jaxlung.study import importance


def categories(seed=0, num_runs=12):
    np_rng = np.random.default_rng(seed)
    losses = np_rng.permuted(np.resize(["bce", "dice", "iou"], num_runs)).tolist()
    return [{"task.loss": loss} for loss in losses], np_rng.random(num_runs).round(1).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_share_of_categories_is_kruskals_statistic_over_n_minus_1(seed):
    """With the correction for ties, of which there are some."""
    runs, scores = categories(seed)
    groups = [
        [x for run, x in zip(runs, scores, strict=True) if run["task.loss"] == loss]
        for loss in ("bce", "dice", "iou")
    ]
    want = stats.kruskal(*groups).statistic / (len(runs) - 1)
    (effect,) = importance.measure(runs, scores)
    assert effect.share == pytest.approx(want)
    assert effect.correlation is None
    means = {group.values[0]: group.mean for group in effect.groups}
    assert means == {
        loss: pytest.approx(np.mean(group))
        for loss, group in zip(("bce", "dice", "iou"), groups, strict=True)
    }


def test_a_field_that_decides_explains_all_and_another_what_chance_does():
    runs = [{"a": a, "b": b} for a in ("x", "y") for b in range(5)]
    scores = [float(run["a"] == "x") for run in runs]
    first, second = importance.measure(runs, scores)
    assert (first.field, first.share) == ("a", pytest.approx(1.0))
    assert (second.field, second.share) == ("b", pytest.approx(0.0))
    assert first.is_beyond_chance
    assert not second.is_beyond_chance


def test_many_numbers_are_put_into_thirds_so_that_a_best_value_in_the_middle_shows():
    rates = [1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7e-3, 8e-3, 1e-2]
    scores = [0.1, 0.2, 0.3, 0.2, 0.7, 0.9, 0.8, 0.8, 0.2, 0.3, 0.2, 0.1]
    (effect,) = importance.measure([{"lr": rate} for rate in rates], scores)
    assert [group.values for group in effect.groups] == [(1e-4, 5e-4), (1e-3, 4e-3), (5e-3, 1e-2)]
    assert [group.mean for group in effect.groups] == pytest.approx([0.2, 0.8, 0.2])
    assert abs(effect.correlation) < 0.1
    assert effect.is_beyond_chance


def test_the_direction_is_spearmans_correlation():
    np_rng = np.random.default_rng(0)
    values, scores = np_rng.random((2, 20))
    (effect,) = importance.measure([{"x": float(value)} for value in values], scores.tolist())
    assert effect.correlation == pytest.approx(stats.spearmanr(values, scores).statistic)


def test_a_failed_run_counts_as_the_worst_and_has_no_mean():
    runs = [{"lr": rate} for rate in (0.1, 0.1, 0.01, 0.01, 0.001, 0.001)]
    (effect,) = importance.measure(runs, [None, None, 0.8, 0.7, 0.5, 0.6])
    low, middle, high = effect.groups
    assert (high.mean, high.num_runs, high.num_failed) == (None, 2, 2)
    assert (low.mean, middle.num_failed) == (pytest.approx(0.55), 0)
    worst = importance.measure(runs, [-9.0, -9.0, 0.8, 0.7, 0.5, 0.6])[0]
    assert effect.share == worst.share
    assert effect.correlation == worst.correlation


def test_chance_exceeds_its_bound_in_about_one_sweep_of_twenty():
    found = 0
    for seed in range(100):
        np_rng = np.random.default_rng(seed)
        a, b, scores = np_rng.random((3, 12))
        runs = [{"a": float(x), "b": int(y * 3)} for x, y in zip(a, b, strict=True)]
        effects = importance.measure(runs, scores.tolist())
        found += any(effect.is_beyond_chance for effect in effects)
    assert 1 <= found <= 13  # 5 expected; binomial, 99.9 %.


@pytest.mark.parametrize("scores", [[0.5] * 4, [None] * 4])
def test_equal_scores_show_nothing(scores):
    (effect,) = importance.measure([{"x": value} for value in range(4)], scores)
    assert (effect.share, effect.correlation, effect.is_beyond_chance) == (None, None, False)


def test_a_field_with_one_value_shows_nothing_and_is_last():
    runs = [{"x": 1, "y": True}, {"x": 1, "y": False}, {"x": 1, "y": True}]
    effects = importance.measure(runs, [0.1, 0.2, 0.3])
    assert [effect.field for effect in effects] == ["y", "x"]
    assert effects[1].share is None


def test_three_runs_can_not_be_beyond_chance():
    (effect,) = importance.measure([{"x": 1}, {"x": 1}, {"x": 2}], [0.1, 0.2, 0.9])
    assert not effect.is_beyond_chance
