"""Measures how often the differences of studies are right, by the number of people.

    python -m benchmarks.differences
    python -m benchmarks.differences --samples=100 --people=8,30

Draws samples of people with scores of two networks whose true difference is known. Prints a
Markdown table: how often 95 % intervals hold that difference (jaxlung's, and SciPy's BCa), and how
often tests at 5 % find a difference that isn't there (jaxlung's, and Wilcoxon's signed-rank test of
the people's means). Takes minutes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special, stats

from benchmarks import coverage
from jaxlung.metrics import jackknife, roc
from jaxlung.study import compared_rows, comparison

PEOPLE = (4, 8, 15, 30, 100)
METHODS = {
    "jaxlung": "holds it: jaxlung",
    "BCa": "holds it: BCa",
    "permutation": "found where there is none: jaxlung",
    "Wilcoxon": "found where there is none: Wilcoxon",
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Images of a few people, scored by two networks.

    Attributes:
        person: [N] int, number of the person of each image.
        one: [N] float64, scores of the first network, or its outputs.
        other: [N] float64, those of the second.
        labels: [N] bool, True for positive images; None if the score is a mean over images.
    """

    person: np.ndarray
    one: np.ndarray
    other: np.ndarray
    labels: np.ndarray | None = None


Draw = Callable[[np.random.Generator, int], Pair]


def draw_equal(np_rng: np.random.Generator, num_people: int) -> Pair:
    """Draws Dice of two equal networks: 1 to 5 similar images per person, one in 20 scores 0."""
    person, patient = _draw_people(np_rng, num_people)
    one, other = (
        np.where(
            np_rng.random(len(person)) < 0.05,
            0.0,
            special.expit(2 + patient + _noise(np_rng, person, 0.5)),
        )
        for _ in range(2)
    )
    return Pair(person, one, other)


def draw_skewed(np_rng: np.random.Generator, num_people: int) -> Pair:
    """Draws Dice of equal mean: the first network is a little better, and fails on one in 30."""
    person, patient = _draw_people(np_rng, num_people)
    one = special.expit(2.25 + patient + _noise(np_rng, person, 0.3))
    one[np_rng.random(len(person)) < 0.033] = 0.0
    return Pair(person, one, special.expit(2 + patient + _noise(np_rng, person, 0.3)))


def draw_distance(np_rng: np.random.Generator, num_people: int) -> Pair:
    """Draws HD95 in mm of two equal networks, with a long tail."""
    person, patient = _draw_people(np_rng, num_people)
    one, other = (np.exp(1.5 + 0.8 * patient + _noise(np_rng, person, 0.4)) for _ in range(2))
    return Pair(person, one, other)


def draw_diagnoses(np_rng: np.random.Generator, num_people: int) -> Pair:
    """Draws outputs of two networks of AUC 0.8 for people of whom half are positive."""
    sample = coverage.balanced(np_rng, num_people)
    one, other = (sample.values + _noise(np_rng, sample.person, 0.5) for _ in range(2))
    return Pair(sample.person, special.expit(one), special.expit(other), sample.labels)


def _draw_people(np_rng: np.random.Generator, num_people: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the person of each image, and what their images have in common for any network."""
    person = np.repeat(np.arange(num_people), np_rng.integers(1, 6, num_people))
    return person, np_rng.normal(size=num_people)[person]


def _noise(np_rng: np.random.Generator, person: np.ndarray, size: float) -> np.ndarray:
    """Returns a network's own deviations: of each person, and of each image."""
    return size * (np_rng.normal(size=person.max() + 1)[person] + np_rng.normal(size=len(person)))


CASES: dict[str, tuple[str, Draw]] = {  # case -> key of the score, sampler
    "mean Dice, equal networks": ("dice", draw_equal),
    "mean Dice, equal means, one fails rarely": ("dice", draw_skewed),
    "mean HD95, equal networks": ("hd95", draw_distance),
    "AUC, equal networks": ("auc", draw_diagnoses),
}


def measure(case: str, num_people: int, num_samples: int) -> dict[str, float]:
    """Returns, by method, the share of intervals that hold the difference or of false findings."""
    key, draw = CASES[case]
    truth = 0.0
    if draw is draw_skewed:
        large = draw(np.random.default_rng(0), 300_000)
        truth = float(np.mean(large.one - large.other))
    found: dict[str, list[bool]] = {method: [] for method in METHODS}
    for seed in range(num_samples):
        np_rng = np.random.default_rng((seed, num_people))
        pair = draw(np_rng, num_people)
        ours = compare(key, pair, truth)
        if not np.isnan(ours.interval[0]):
            found["jaxlung"].append(ours.interval[0] <= 0 <= ours.interval[1])
        found["permutation"].append(ours.p <= comparison.LEVEL)
        if pair.labels is None:
            each = pair.one - pair.other - truth
            low, high = coverage.bca_interval(coverage.Sample(pair.person, each), np_rng)
            found["BCa"].append(low <= 0 <= high)
            means = np.bincount(pair.person, each) / np.bincount(pair.person)
            found["Wilcoxon"].append(stats.wilcoxon(means).pvalue <= comparison.LEVEL)
    return {method: float(np.mean(held)) for method, held in found.items() if held}


def compare(key: str, pair: Pair, truth: float) -> comparison.Difference:
    """Returns the difference as a study has it, after `truth` is taken from the first network."""
    one, other = (_row(key, pair, values) for values in (pair.one - truth, pair.other))
    return comparison.compare(key, [(one, other)])[0]


def _row(key: str, pair: Pair, values: np.ndarray) -> compared_rows.ComparedRow:
    people = np.array([f"patient{number:05}" for number in pair.person])
    pooled = {}
    if pair.labels is not None:
        each = jackknife.weigh_each(jackknife.group_people(people))
        weights = np.concatenate([np.ones((1, len(values)), np.int32), 1 - each])
        pooled = {key: np.array(roc.auc(pair.labels, values, weights))}
    return compared_rows.ComparedRow(
        label="network",
        num_runs=1,
        image_ids=np.array([f"image{number:05}" for number in range(len(values))]),
        people=people,
        is_positive=np.zeros(len(values), bool) if pair.labels is None else pair.labels,
        scores={} if pooled else {key: values},
        pooled=pooled,
    )


def table_lines(people: Sequence[int], num_samples: int) -> Iterator[str]:
    """Yields lines of Markdown: a row for each case and method, a column for each sample size."""
    yield "| difference in | how often | " + " | ".join(f"{n} people" for n in people) + " |"
    yield "| --- | --- |" + " ---: |" * len(people)
    for case in CASES:
        found = [measure(case, number, num_samples) for number in people]
        for method, label in METHODS.items():
            if method in found[0]:
                cells = [f"{100 * each[method]:.0f} %" for each in found]
                yield f"| {case} | {label} | {' | '.join(cells)} |"


if __name__ == "__main__":
    coverage.main(table_lines, __doc__, PEOPLE, 500)
