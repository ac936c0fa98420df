"""Measures how often 95 % intervals of scores hold the true score, by the number of people.

    python -m benchmarks.coverage
    python -m benchmarks.coverage --samples=200 --people=4,15

Draws samples of people from populations whose score is known. Prints a Markdown table with the
share of samples whose interval holds that score, for jaxlung's intervals and for the bootstrap over
people (percentile and BCa, as in SciPy). Takes minutes.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import special, stats

from jaxlung.evaluation import intervals
from jaxlung.metrics import jackknife, roc

NUM_RESAMPLES = 1000
PEOPLE = (4, 8, 15, 30, 100)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images of a few people.

    Attributes:
        person: [N] int, number of the person of each image.
        values: [N] float64, the score of each image, or the network's output for it.
        labels: [N] bool, True for positive images; None if the score is the mean of `values`.
    """

    person: np.ndarray
    values: np.ndarray
    labels: np.ndarray | None = None

    def score(self, weights: np.ndarray) -> np.ndarray:
        """Returns [R] scores for weights [R, N]."""
        if self.labels is None:
            return jackknife.weighted_mean(self.values, weights)
        return roc.auc(self.labels, self.values, weights)


Draw = Callable[[np.random.Generator, int], Sample]


def draw_overlap(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws skewed Dice scores: 1 to 5 similar images per person, one image in 20 scores 0."""
    person = np.repeat(np.arange(num_people), np_rng.integers(1, 6, num_people))
    logits = 2 + np_rng.normal(size=num_people)[person] + 0.7 * np_rng.normal(size=len(person))
    missed = np_rng.random(len(person)) < 0.05
    return Sample(person, np.where(missed, 0.0, special.expit(logits)))


def draw_high(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws Dice scores of lungs, near 0.96: 1 to 5 similar images per person."""
    person = np.repeat(np.arange(num_people), np_rng.integers(1, 6, num_people))
    logits = 3.5 + 0.8 * np_rng.normal(size=num_people)[person]
    return Sample(person, special.expit(logits + 0.4 * np_rng.normal(size=len(person))))


def draw_right(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws one answer per person, which is right nine times in ten."""
    return Sample(np.arange(num_people), (np_rng.random(num_people) < 0.9).astype(np.float64))


def draw_distance(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws HD95 in mm with a long tail: 1 to 5 similar images per person."""
    person = np.repeat(np.arange(num_people), np_rng.integers(1, 6, num_people))
    logs = 1.5 + 0.8 * np_rng.normal(size=num_people)[person]
    return Sample(person, np.exp(logs + 0.5 * np_rng.normal(size=len(person))))


def draw_diagnoses(
    np_rng: np.random.Generator, num_people: int, area: float, share: float
) -> Sample:
    """Draws outputs for 1 to 3 similar images per person, with both kinds of people in the sample.

    Args:
        np_rng: random generator.
        num_people: number of people, 2 or more.
        area: AUC of the population.
        share: share of positive people, in (0, 1).
    """
    positive = np.zeros(num_people, bool)
    while positive.all() or not positive.any():
        positive = np_rng.random(num_people) < share
    person = np.repeat(np.arange(num_people), np_rng.integers(1, 4, num_people))
    apart = np.sqrt(2) * stats.norm.ppf(area) * positive[person]
    alike = 0.8 * np_rng.normal(size=num_people)[person]
    return Sample(person, apart + alike + 0.6 * np_rng.normal(size=len(person)), positive[person])


def balanced(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws diagnoses of AUC 0.8 for people of whom half are positive."""
    return draw_diagnoses(np_rng, num_people, 0.8, 0.5)


def rare(np_rng: np.random.Generator, num_people: int) -> Sample:
    """Draws diagnoses of AUC 0.95 for people of whom a fifth are positive."""
    return draw_diagnoses(np_rng, num_people, 0.95, 0.2)


# Case -> its sampler, its true score (None: computed from a large sample), the score's name.
CASES: dict[str, tuple[Draw, float | None, str]] = {
    "mean Dice of infection, 0.79": (draw_overlap, None, "dice"),
    "mean Dice of lungs, 0.96": (draw_high, None, "dice"),
    "accuracy, 0.90": (draw_right, 0.9, "accuracy"),
    "mean HD95, 7.0 mm": (draw_distance, None, "hd95"),
    "AUC, 0.80": (balanced, 0.8, "auc"),
    "AUC, 0.95, few positive": (rare, 0.95, "auc"),
}


def measure(case: str, num_people: int, num_samples: int) -> dict[str, float]:
    """Returns, for each method, the share of intervals that hold the true score.

    "none" is the share of samples for which jaxlung gives no interval; "width" is the mean width
    of its intervals.
    """
    draw, truth, name = CASES[case]
    if truth is None:
        population = draw(np.random.default_rng(0), 1_000_000)
        truth = float(population.values.mean())
    found: dict[str, list[tuple[float, float]]] = {"jaxlung": [], "percentile": [], "BCa": []}
    for seed in range(num_samples):
        np_rng = np.random.default_rng((seed, num_people))
        sample = draw(np_rng, num_people)
        found["jaxlung"].append(our_interval(sample, name))
        found["percentile"].append(percentile_interval(sample, np_rng))
        if sample.labels is None:
            found["BCa"].append(bca_interval(sample, np_rng))
    ours = np.array(found["jaxlung"])
    return {
        **{method: _coverage(np.array(ends), truth) for method, ends in found.items() if ends},
        "none": float(np.isnan(ours[:, 0]).mean()),
        "width": float(np.nanmean(ours[:, 1] - ours[:, 0])) if not np.isnan(ours).all() else 0.0,
    }


def _coverage(ends: np.ndarray, truth: float) -> float:
    ends = ends[~np.isnan(ends[:, 0])]
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))) if len(ends) else np.nan


def our_interval(sample: Sample, name: str) -> tuple[float, float]:
    """Returns the interval of an evaluation; NaN if there is none."""
    people = np.array([f"p{number:03}" for number in sample.person])
    compared = {} if sample.labels is None else {name: sample.labels}
    judged = intervals.with_intervals(lambda w: {name: sample.score(w)}, people, compared)
    low, high = judged["intervals"][name]
    return (np.nan, np.nan) if low is None else (low, high)


def percentile_interval(sample: Sample, np_rng: np.random.Generator) -> tuple[float, float]:
    """Returns the middle 95 % of the scores of resampled people."""
    num_people = sample.person.max() + 1
    drawn = np_rng.multinomial(num_people, np.full(num_people, 1 / num_people), NUM_RESAMPLES)
    low, high = np.nanquantile(sample.score(drawn[:, sample.person]), [0.025, 0.975])
    return low, high


def bca_interval(sample: Sample, np_rng: np.random.Generator) -> tuple[float, float]:
    """Returns SciPy's BCa interval of a mean; constant scores have their own value."""
    sums, counts = np.bincount(sample.person, sample.values), np.bincount(sample.person)
    if np.ptp(sample.values) == 0:
        return sample.values[0], sample.values[0]
    ends = stats.bootstrap(
        (sums, counts),
        lambda x, n, axis: x.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        rng=np_rng,
    ).confidence_interval
    return ends.low, ends.high


def table_lines(people: Sequence[int], num_samples: int) -> Iterator[str]:
    """Yields lines of Markdown: a row for each case and method, a column for each sample size."""
    yield "| true score | interval | " + " | ".join(f"{n} people" for n in people) + " |"
    yield "| --- | --- |" + " ---: |" * len(people)
    for case in CASES:
        found = [measure(case, number, num_samples) for number in people]
        for method in ("jaxlung", "percentile", "BCa"):
            if method in found[0]:
                cells = [f"{100 * each[method]:.0f} %" for each in found]
                yield f"| {case} | {method} | {' | '.join(cells)} |"
        cells = [f"{each['width']:.2f} ({100 * each['none']:.0f} %)" for each in found]
        yield f"| {case} | mean width (none given) | {' | '.join(cells)} |"


def main(
    lines: Callable[[Sequence[int], int], Iterator[str]],
    description: str,
    people: Sequence[int],
    num_samples: int,
) -> None:
    """Runs the command line of a simulation and prints its table line by line.

    Args:
        lines: takes sizes of samples and the number of samples of each; yields Markdown.
        description: the text of `--help`.
        people: default sizes.
        num_samples: default number.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--samples", type=int, default=num_samples, help="samples of each size")
    parser.add_argument("--people", default=",".join(map(str, people)), help="sizes of samples")
    args = parser.parse_args()
    for line in lines([*map(int, args.people.split(","))], args.samples):
        print(line, flush=True)


if __name__ == "__main__":
    main(table_lines, __doc__, PEOPLE, 1000)
