"""A study's tables as Markdown for readers and as CSV for programs."""

import math
from collections.abc import Sequence
from typing import Any

from jaxlung.host import csv_text
from jaxlung.report import markdown
from jaxlung.study import comparison, comparison_text, contents, run_facts
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

OVER = ("folds", "seeds")  # a standard deviation is over
MARKS = {"": "", "strong": "**", "paper": "*"}  # Markdown emphasis, by the style of a row


def to_csv(study: study_lib.Study, table: Sequence[rows_lib.Row]) -> str:
    """Returns a line per row of the table.

    Each score has columns "_low" and "_high" for its 95 % interval, and "_sd" for the standard
    deviation beside a mean over runs. Where they are known, "_sd_folds" is the deviation over the
    folds of a seed, and "_sd_seeds" over seeds. Column "source" distinguishes runs, rows of several
    runs, and the paper's scores. Cells of unknown or undefined numbers are empty.
    """
    head = ["source", "run", "label", "config", "seed", "fold", "step", "epochs", "num_images"]
    ends = ("", "_low", "_high", "_sd", *(f"_sd_{name}" for name in OVER))
    names = [*head, *rows_lib.LOSSES, *(f"{key}{end}" for key in study.columns for end in ends)]
    lines = [names]
    for row in table:
        cells = {"source": row.source, "label": row.label, **row.facts}
        cells |= {key: row.scores.get(key) for key in rows_lib.LOSSES}
        for key in study.columns:
            low, high = row.intervals.get(key, (None, None))
            sds = (each.get(key) for each in (row.sds, *(row.sds_over.get(x, {}) for x in OVER)))
            numbers = (row.scores.get(key), low, high, *sds)
            cells |= {f"{key}{end}": x for end, x in zip(ends, numbers, strict=True)}
        lines.append([cells.get(name, "") for name in names])
    return csv_text.to_text(lines)


def differences_to_csv(compared: comparison.Comparison) -> str:
    """Returns a line per score and pair: the difference is `first` minus `second`.

    "low" and "high" are the ends of the 95 % interval. Cells of unknown numbers are empty.
    """
    names = ["score", "first", "second", "difference", "low", "high", "p", "p_adjusted"]
    lines: list[list[Any]] = [[*names, "num_pairs", "num_images", "num_patients", "verdict"]]
    for each in compared.differences:
        numbers = (each.value, *each.interval, each.p, each.p_adjusted)
        cells = ["" if math.isnan(number) else number for number in numbers]
        counts = [each.num_pairs, each.num_images, each.num_people]
        lines.append([each.key, each.first, each.second, *cells, *counts, each.verdict])
    return csv_text.to_text(lines)


def to_markdown(content: contents.Contents) -> str:
    """Returns the table, the remarks on it, the figures and the list of runs."""
    parts = [f"# {content.title}"]
    if content.generated:
        parts.append(f"> **{content.generated}** {content.warning}")
    parts += [
        markdown.table(
            ["run", *content.columns],
            [[line.heading, *map(markdown.cell_text, line.cells)] for line in content.lines],
            marks=[MARKS[line.style] for line in content.lines],
        ),
        markdown.bullets(content.sentences),
        markdown.picture(content.chart, "study.png"),
    ]
    if content.differences:
        parts += _describe_differences(content.differences)
    if content.images:
        parts += [content.images, markdown.picture(content.outputs, "figures/outputs.png")]
    if content.sweep:
        parts += [
            "## Runs of the sweep",
            markdown.score_table(content.sweep.runs),
            markdown.bullets(content.sweep.sentences),
            "## What mattered",
            markdown.bullets(content.sweep.remarks),
            markdown.score_table(content.sweep.effects),
            markdown.picture(content.sweep.chart, "sweep.png"),
        ]
    parts += ["## Runs", markdown.bullets([_describe_run(run) for run in content.runs])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_differences(section: comparison_text.Section) -> list[str]:
    parts = ["## Differences"]
    if section.table:
        parts.append(markdown.score_table(section.table))
        parts.append(markdown.picture(section.chart, "figures/differences.png"))
    return [*parts, markdown.bullets(section.sentences)]


def _describe_run(run: run_facts.RunFacts) -> str:
    """Returns "BCE: `covidqu_residual:loss=bce`, seed 0, ..., [report](runs/bce/report.html)"."""
    said = [f"`{run.config}`" + (f" with {', '.join(run.changes)}" if run.changes else "")]
    said += run.facts
    if not run.in_table:  # Its scores are shown nowhere else.
        said += [f"{run.split} {label} {score.text}" for label, score in run.headlines.items()]
    return f"{run.label}: {', '.join(said)}; [report]({run.report})"
