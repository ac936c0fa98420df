"""A study's table: Markdown to read, CSV to compute with."""

from collections.abc import Sequence

from jaxlung.host import csv_text
from jaxlung.study import contents, outputs, results
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

MARKS = {"": "", "strong": "**", "paper": "*"}  # of Markdown, by the style of a row


def to_csv(study: study_lib.Study, table: Sequence[rows_lib.Row]) -> str:
    """A row per row of the table: each score with "_low" and "_high", its 95 % interval, and "_sd".

    Column "source" tells runs from what they come to together and from the paper's numbers. What
    is not known, or not to be had, is an empty cell.
    """
    head = ["source", "run", "label", "config", "seed", "fold", "step", "epochs", "num_images"]
    ends = ("", "_low", "_high", "_sd")
    names = [*head, *rows_lib.LOSSES, *(f"{key}{end}" for key in study.columns for end in ends)]
    lines = [names]
    for row in table:
        cells = {"source": row.source, "label": row.label, **row.facts}
        cells |= {key: row.scores.get(key) for key in rows_lib.LOSSES}
        for key in study.columns:
            low, high = row.intervals.get(key, (None, None))
            numbers = (row.scores.get(key), low, high, row.sds.get(key))
            cells |= {f"{key}{end}": x for end, x in zip(ends, numbers, strict=True)}
        lines.append([cells.get(name, "") for name in names])
    return csv_text.to_text(lines)


def to_markdown(
    study: study_lib.Study,
    found: Sequence[results.Result],
    table: Sequence[rows_lib.Row],
    images: outputs.Outputs | None,
) -> str:
    """The table, what is to be said about it, the figures and the list of runs.

    Args:
        study: what was run.
        found: all runs, those outside the table too.
        table: its rows.
        images: what the figure of outputs shows; None if there is none.
    """
    told = contents.make(study, found, table, images)
    parts = [f"# {told.title}"]
    if told.generated:
        parts.append(f"> **{told.generated}** {told.warning}")
    parts += [_score_table(told), _list(told.sentences), _picture(told.chart, "study.png")]
    if told.images:
        parts += [told.images, _picture(told.outputs, "figures/outputs.png")]
    parts += ["## Runs", _list([_describe_run(run) for run in told.runs])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _score_table(told: contents.Contents) -> str:
    head = ["run", *told.columns]
    rows = [[_mark(line, line.heading), *_cells(line)] for line in told.lines]
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(_escape, row)) + " |" for row in (head, rules, *rows))


def _cells(line: contents.Line) -> list[str]:
    """ "0.9123 (0.901-0.920)", or "0.912 +- 0.012" of a mean; in italics if it is the paper's."""
    texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in line.cells]
    if line.style != "paper":
        return texts
    return [text if text == contents.DASH else _mark(line, text) for text in texts]


def _mark(line: contents.Line, text: str) -> str:
    marks = MARKS[line.style]
    return f"{marks}{text}{marks}"


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _picture(alt: str, path: str) -> str:
    return f"![{alt.replace('[', '(').replace(']', ')')}]({path})"


def _describe_run(run: contents.RunFacts) -> str:
    """ "BCE: `covidqu_residual:loss=bce`, seed 0, ..., [report](runs/bce/report.html)" """
    said = [f"`{run.config}`" + (f" with {', '.join(run.changes)}" if run.changes else "")]
    said += run.facts
    if not run.in_table:  # Its scores stand nowhere else.
        said += [f"{run.split} {label} {score.text}" for label, score in run.headlines.items()]
    return f"{run.label}: {', '.join(said)}; [report]({run.report})"
