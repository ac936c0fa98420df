"""Simulated coverage of 95 % intervals of few people, and of the bootstrap that they replaced."""

import pathlib

import numpy as np
import pytest

from benchmarks import coverage
from jaxlung.report import notes

# Of 400 samples the standard error of 95 % is 1.1 %: four of them are below these bounds too.
LEAST = {
    "mean Dice of infection, 0.79": 0.88,
    "mean Dice of lungs, 0.96": 0.87,
    "accuracy, 0.90": 0.90,
    "mean HD95, 7.0 mm": 0.83,
    "AUC, 0.80": 0.90,
    "AUC, 0.95, few positive": 0.86,
}


@pytest.mark.slow
@pytest.mark.parametrize("num_people", [4, 8, 15, 30])
@pytest.mark.parametrize("case", list(coverage.CASES))
def test_intervals_of_few_people_hold_the_truth_as_often_as_is_said(case, num_people):
    found = coverage.measure(case, num_people, 400)
    assert found["jaxlung"] >= LEAST[case]
    if num_people < 8:
        assert found["percentile"] < LEAST[case] < found["jaxlung"]


def test_the_report_says_the_least_and_most_of_the_documented_table():
    """Of `docs/scores.md`, from 4 to 30 people."""
    rows = [line.split("|")[3:7] for line in _doc_lines() if "| jaxlung |" in line]
    shares = [int(cell.strip(" %")) for row in rows for cell in row]
    assert len(rows) == len(coverage.CASES)
    assert f"{min(shares)} to {max(shares)}" == notes.COVERAGE


def test_samples_have_the_score_that_is_said():
    for draw, truth, _ in coverage.CASES.values():
        sample = draw(np.random.default_rng(0), 3_000)
        score = sample.score(np.ones((1, len(sample.values)), int))[0]
        if truth is not None:
            assert score == pytest.approx(truth, abs=0.02)
        assert np.ptp(np.bincount(sample.person)) <= 4


def _doc_lines():
    return (pathlib.Path(__file__).parents[2] / "docs/scores.md").read_text().splitlines()
