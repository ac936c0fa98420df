"""The temperature of a table of logits against scikit-learn, SciPy and the formula."""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import linear_model, metrics

from jaxlung.metrics import temperature


def draw(true_temperature, size=20_000, seed=0, spread=6.0, shift=-2.0):
    """Returns levels and logits whose probabilities are right once divided by the temperature."""
    np_rng = np.random.default_rng(seed)
    logits = np_rng.normal(shift, spread, size).astype(np.float32)
    levels = np_rng.random(size) < special.expit(logits / true_temperature)
    return levels.astype(np.uint8), logits


def loss(levels, logits, at):
    return metrics.log_loss(levels, special.expit(logits.astype(np.float64) / at))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5, 8.0])
def test_the_fit_is_that_of_logistic_regression_without_intercept(true_temperature):
    levels, logits = draw(true_temperature)
    got = temperature.fit(temperature.count(levels, logits))
    model = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    model.fit(logits[:, None].astype(np.float64), levels)
    np.testing.assert_allclose(got, 1 / model.coef_.item(), rtol=1e-4)
    np.testing.assert_allclose(got, true_temperature, rtol=0.1)  # What chance allows.


@pytest.mark.parametrize("seed", [1, 2])
def test_the_fit_has_the_lowest_likelihood_loss_of_all_logits_one_by_one(seed):
    levels, logits = draw(3.0, seed=seed)
    got = temperature.fit(temperature.count(levels, logits))
    want = optimize.minimize_scalar(
        lambda x: loss(levels, logits, np.exp(x)), bounds=(-3, 3), options={"xatol": 1e-9}
    )
    np.testing.assert_allclose(got, np.exp(want.x), rtol=1e-4)
    assert loss(levels, logits, got) <= min(loss(levels, logits, got * x) for x in (0.99, 1.01))


@pytest.mark.parametrize("at", [1.0, 2.0, 0.5])
def test_the_mean_loss_is_sklearns_up_to_the_bins_width(at):
    levels, logits = draw(2.0, spread=2.0)
    table = temperature.count(levels, logits)
    np.testing.assert_allclose(
        temperature.mean_loss(table, at), loss(levels, logits, at), atol=8e-6 / at**2
    )


def test_tables_add_up_over_images_and_hold_every_pixel():
    levels, logits = draw(2.0)
    parts = zip(np.split(levels, 4), np.split(logits, 4), strict=True)
    total = sum(temperature.count(*part) for part in parts)
    whole = temperature.count(levels, logits)
    np.testing.assert_array_equal(total[0], whole[0])
    np.testing.assert_allclose(total[1], whole[1], rtol=1e-12)
    np.testing.assert_array_equal(whole[0].sum(axis=1), np.bincount(levels))
    sums = [logits[levels == level].sum(dtype=np.float64) for level in (0, 1)]
    np.testing.assert_allclose(whole[1].sum(axis=1), sums, rtol=1e-9)


def test_logits_beyond_float32_probabilities_and_the_last_bin_count_in_full():
    # As float32 probabilities, the wrong ones would all be 1, and their logits unknown.
    logits = np.array([-3.0, 3.0, 40.0, 150.0, -150.0] * 40 + [40.0, 150.0], np.float32)
    levels = np.array([0, 1, 1, 1, 0] * 40 + [0, 0], np.uint8)
    got = temperature.fit(temperature.count(levels, logits))
    want = optimize.minimize_scalar(
        lambda x: float(np.logaddexp(0, np.where(levels, -logits, logits) / np.exp(x)).sum()),
        bounds=(-3, 3),
        options={"xatol": 1e-9},
    )
    np.testing.assert_allclose(got, np.exp(want.x), rtol=1e-3)
    assert got > 5


@pytest.mark.parametrize(
    ("levels", "logits"),
    [
        ([0, 0, 0], [-1.0, -2.0, -1.0]),  # a single class
        ([0, 1, 1], [-1.0, 2.0, 1.0]),  # separated without an error
        ([1, 0, 0], [-1.0, 2.0, 1.0]),  # all wrong
        ([1, 0, 1], [0.0, 0.0, 0.0]),  # tell nothing
        ([], []),
    ],
)
def test_what_determines_no_temperature_gives_none(levels, logits):
    table = temperature.count(np.array(levels, np.uint8), np.array(logits, np.float32))
    assert temperature.fit(table) is None
    assert np.isnan(temperature.mean_loss(table, 1.0)) == (not levels)


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"levels \(3,\) and logits \(2,\) must agree"):
        temperature.count(np.zeros(3, np.uint8), np.zeros(2, np.float32))
