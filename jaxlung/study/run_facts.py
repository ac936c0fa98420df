"""The facts about each run of a study, for Markdown and HTML."""

import dataclasses
import math

from jaxlung.report import glossary, tables
from jaxlung.study import results
from jaxlung.tasks import words


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """The facts about one run that a study page tells its reader.

    Attributes:
        label: Label of its row.
        config: The config, as for `--config`.
        changes: "field = value" for each field that the study sets.
        facts: Seed, epochs and the step that was scored, in words.
        headlines: Label -> main score of the task, with its unit and interval.
        split: The split of these scores.
        in_table: True if the run has a row in the score table.
        report: Path of its report, relative to the study's folder.
    """

    label: str
    config: str
    changes: list[str]
    facts: list[str]
    headlines: dict[str, tables.Cell]
    split: str
    in_table: bool
    report: str


def make(result: results.Result) -> RunFacts:
    """Returns the facts about a finished run."""
    overrides = result.run.overrides.items()
    return RunFacts(
        label=result.run.label,
        config=result.run.config,
        changes=[f"{field} = {value}".replace("{runs}", "runs") for field, value in overrides],
        facts=[
            f"seed {result.config.seed}",
            glossary.count(result.epochs, "epoch", ""),
            f"step {result.summary.step:,} scored",
        ],
        headlines=_headlines(result),
        split=result.summary.split,
        in_table=result.run.in_table,
        report=f"runs/{result.run.name}/report.html",
    )


def _headlines(result: results.Result) -> dict[str, tables.Cell]:
    summary = result.summary
    headlines = {}
    for key in words.find(summary.task).headlines:
        if is_known(summary.scores.get(key)):
            term = glossary.find_term(key, summary.task, summary.levels)
            text = glossary.format_score(key, summary.scores[key])
            interval = glossary.format_interval(key, summary.intervals.get(key))
            headlines[term.label] = tables.Cell(f"{text} {term.unit}".rstrip(), interval)
    return headlines


def is_known(score: float | None) -> bool:
    """Returns whether a score is a finite number."""
    return score is not None and math.isfinite(score)
