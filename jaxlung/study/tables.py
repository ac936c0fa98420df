"""A study's table: Markdown to read, CSV to compute with."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from jaxlung.report import glossary, terms
from jaxlung.study import outputs, results
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

DASH = "\N{EN DASH}"


def to_csv(study: study_lib.Study, table: Sequence[rows_lib.Row]) -> str:
    """A row per row of the table: each score with "_low" and "_high", its 95 % interval, and "_sd".

    Column "source" tells runs from what they come to together and from the paper's numbers. What
    is not known, or not to be had, is an empty cell.
    """
    head = ["source", "run", "label", "config", "seed", "fold", "step", "epochs", "num_images"]
    ends = ("", "_low", "_high", "_sd")
    text = io.StringIO()
    names = [*head, *rows_lib.LOSSES, *(f"{key}{end}" for key in study.columns for end in ends)]
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table:
        cells = {"source": row.source, "label": row.label, **row.facts}
        cells |= {key: row.scores.get(key) for key in rows_lib.LOSSES}
        for key in study.columns:
            low, high = row.intervals.get(key, (None, None))
            numbers = (row.scores.get(key), low, high, row.sds.get(key))
            cells |= {f"{key}{end}": x for end, x in zip(ends, numbers, strict=True)}
        writer.writerow(cells)
    return text.getvalue()


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
    shown = [result for result in found if result.run.in_table]
    labels = label_columns(study, shown)
    sentences = [*study.notes, *_facts(shown), *_describe_groups(table)]
    sentences += _describe_undefined(labels, shown)
    parts = [f"# {study.title}", _score_table(labels, table), _list(sentences)]
    parts += ["![Test scores of every run with 95 % intervals](study.png)"]
    if images is not None:
        parts += [describe_images(images)]
        parts += ["![Input, annotation and raw output of every run](figures/outputs.png)"]
    parts += ["## Runs", _list([_describe_run(result) for result in found])]
    return "\n\n".join(part for part in parts if part) + "\n"


def label_columns(study: study_lib.Study, shown: Sequence[results.Result]) -> dict[str, str]:
    """Score -> its name for readers, with its unit."""
    task, levels = shown[0].summary.task, shown[0].summary.levels
    terms_of = {key: glossary.find_term(key, task, levels) for key in study.columns}
    return {
        key: f"{term.label}, {term.unit}" if term.unit else term.label
        for key, term in terms_of.items()
    }


def _score_table(labels: Mapping[str, str], table: Sequence[rows_lib.Row]) -> str:
    head = ["run", *labels.values(), "training loss", "validation loss"]
    rows = [_cells(labels, row) for row in table]
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(_escape, row)) + " |" for row in (head, rules, *rows))


def _cells(labels: Mapping[str, str], row: rows_lib.Row) -> list[str]:
    if row.source == "paper":  # With the paper's own decimals.
        numbers = [row.scores.get(key) for key in labels]
        cells = [DASH if number is None else f"*{number}*" for number in numbers]
        return [f"*{row.heading}*", *cells, DASH, DASH]
    heading = row.heading if row.source == "run" else f"**{row.heading}**"
    losses = [glossary.format_score("loss", row.scores.get(key)) for key in rows_lib.LOSSES]
    return [heading, *(_cell(row, key) for key in labels), *losses]


def _cell(row: rows_lib.Row, key: str) -> str:
    """ "0.9123 (0.901-0.920)", or "0.912 +- 0.012" of a mean."""
    text = glossary.format_spread(key, row.scores.get(key), row.sds.get(key))
    interval = glossary.format_interval(key, row.intervals.get(key))
    return f"{text} ({interval})" if interval else text


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _facts(shown: Sequence[results.Result]) -> list[str]:
    """What the numbers in the table are."""
    summary = shown[0].summary
    task = summary.task
    sentences = [
        f"Scores of the test split, {glossary.count(summary.num_images, 'image', task)} of "
        f"{glossary.count(summary.num_patients, 'patient', task)}; in brackets the 95 % "
        "interval over resamples of the patients.",
        "Losses are those of the last epoch; runs that minimise different losses can't be compared "
        "by them.",
    ]
    others: dict[int, list[str]] = {}
    for result in shown:
        others.setdefault(result.summary.num_images, []).append(result.run.label)
    del others[summary.num_images]
    sentences += [
        f"{'; '.join(who)}: {glossary.count(num, 'test image', task)}."
        for num, who in others.items()
    ]
    if any(result.config.data.get("phantom_images", 0) for result in shown):
        kind = "CTs" if task == glossary.VOLUME_MASK else "X-rays"
        sentences.append(f"**Generated {kind} (phantoms): these numbers say nothing of patients.**")
    return sentences


def _describe_groups(table: Sequence[rows_lib.Row]) -> list[str]:
    """What the rows of several runs are, where there are any."""
    sources = {row.source for row in table}
    sentences = {
        "mean": "Means of several runs: after \N{PLUS-MINUS SIGN} the standard deviation over them "
        "(n - 1), squares in the figure. It is of all that differs between them: fold, or seed and "
        "with it the split where that is drawn.",
        "all": "Volumes together: each as the network saw it that was not trained on it; mean over "
        "the volumes, interval over resamples of their patients.",
    }
    return [text for source, text in sentences.items() if source in sources]


def _describe_undefined(labels: Mapping[str, str], shown: Sequence[results.Result]) -> list[str]:
    """Whom a mean leaves out: a network that finds nothing must not gain by it in silence."""
    sentences = []
    for key, label in labels.items():
        counts = {result.run.label: result.summary.undefined.get(key, 0) for result in shown}
        told = "; ".join(f"{run} {count}" for run, count in counts.items() if count)
        if told:
            kind = glossary.reword("images", shown[0].summary.task)
            sentences.append(f"{label}: some {kind} have none and are left out: {told}.")
    return sentences


def describe_images(images: outputs.Outputs) -> str:
    """Which test images the figure shows, and why these."""
    named = [
        f"no. {number} ({image_id})"
        for number, image_id in zip(images.numbers, images.image_ids, strict=True)
    ]
    text = f"Test images {', '.join(named)}, counted from 1 in the order of `splits.csv`"
    if max(images.wanted) <= images.num_images:
        return f"{text}."
    wanted = ", ".join(map(str, images.wanted))
    return f"{text}: the split has {images.num_images}, so no. {wanted} are not all there."


def _describe_run(result: results.Result) -> str:
    """ "bce: covidqu_residual:loss=bce, 100 epochs, ..., [report](runs/bce/report.html)" """
    overrides = result.run.overrides.items()
    changed = [f"{field} = {value}".replace("{runs}", "runs") for field, value in overrides]
    said = [
        f"`{result.run.config}`" + (f" with {', '.join(changed)}" if changed else ""),
        f"seed {result.config.seed}",
        f"{result.epochs} epochs",
        f"step {result.summary.step} scored",
    ]
    if not result.run.in_table:  # Its scores stand nowhere else.
        said += _headlines(result)
    link = f"[report](runs/{result.run.name}/report.html)"
    return f"{result.run.label}: {', '.join(said)}; {link}"


def _headlines(result: results.Result) -> list[str]:
    task, scores = result.summary.task, result.summary.scores
    keys = [key for key in terms.HEADLINES.get(task, ()) if math.isfinite(scores.get(key) or 0)]
    return [
        f"test {glossary.find_term(key, task).label} {glossary.format_score(key, scores.get(key))}"
        for key in keys
    ]
