"""What there is to read about a study, for Markdown and HTML alike."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxlung.report import glossary, notes, terms
from jaxlung.report import tables as report_tables
from jaxlung.study import outputs, results
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

DASH = "\N{EN DASH}"
STYLES = {"run": "", "mean": "strong", "all": "strong", "paper": "paper"}  # by a row's source


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the score table.

    Attributes:
        heading: what the row is.
        cells: a score or loss each, with its interval or "".
        style: "", "strong" or "paper".
    """

    heading: str
    cells: list[report_tables.Cell]
    style: str


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """One run.

    Attributes:
        label: of its row.
        config: as for `--config`.
        changes: "field = value" of what the study overrides.
        facts: seed, epochs and the step that was scored, in words.
        headlines: label -> score with its unit and interval, of the task's main scores.
        split: that these scores are of.
        in_table: whether the scores stand in the table too.
        report: its page, relative to the study's folder.
    """

    label: str
    config: str
    changes: list[str]
    facts: list[str]
    headlines: dict[str, report_tables.Cell]
    split: str
    in_table: bool
    report: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything but the figures; the text is not escaped.

    Attributes:
        title: one line.
        generated: "Generated X-rays (phantoms)." or "".
        warning: what that means, or "".
        columns: heads of the table, after the one of the runs.
        lines: of the table.
        sentences: what is to be said about it, the study's notes first; `code` in backticks.
        chart: what the chart shows.
        images: which images the figure of outputs has and why; "" without it.
        outputs: what that figure shows; "" without it.
        runs: all of them, those outside the table too.
        definitions: label -> what the score is.
        empty_rule: how empty masks score, and what has no score.
    """

    title: str
    generated: str
    warning: str
    columns: list[str]
    lines: list[Line]
    sentences: list[str]
    chart: str
    images: str
    outputs: str
    runs: list[RunFacts]
    definitions: dict[str, str]
    empty_rule: str


def make(
    study: study_lib.Study,
    found: Sequence[results.Result],
    table: Sequence[rows_lib.Row],
    images: outputs.Outputs | None,
) -> Contents:
    """Words and numbers of a study whose runs are finished.

    Args:
        study: what was run.
        found: all runs, those outside the table too.
        table: its rows.
        images: what the figure of outputs shows; None if there is none.
    """
    shown = [result for result in found if result.run.in_table]
    labels = label_columns(study, shown)
    task = shown[0].summary.task
    generated, warning = _warn(study, shown)
    sentences = [*study.notes, *_facts(shown), *_describe_groups(table)]
    return Contents(
        title=study.title,
        generated=generated,
        warning=warning,
        columns=[*labels.values(), "training loss", "validation loss"],
        lines=[Line(row.heading, _cells(labels, row), STYLES[row.source]) for row in table],
        sentences=sentences + _describe_undefined(labels, shown),
        chart=_describe_chart(labels, table, study.split),
        images=_describe_images(images) if images else "",
        outputs=_describe_outputs(images) if images else "",
        runs=[_describe_run(result) for result in found],
        definitions=_define(study, shown),
        empty_rule=glossary.empty_rule(task),
    )


def label_columns(study: study_lib.Study, shown: Sequence[results.Result]) -> dict[str, str]:
    """Score -> its name for readers, with its unit."""
    return {
        key: f"{term.label}, {term.unit}" if term.unit else term.label
        for key, term in _find_terms(study, shown).items()
    }


def _find_terms(study: study_lib.Study, shown: Sequence[results.Result]) -> dict[str, terms.Term]:
    task, levels = shown[0].summary.task, shown[0].summary.levels
    return {key: glossary.find_term(key, task, levels) for key in study.columns}


def _define(study: study_lib.Study, shown: Sequence[results.Result]) -> dict[str, str]:
    listed = [*_find_terms(study, shown).values(), terms.INTERVAL_TERM]
    task = shown[0].summary.task
    return {t.label: glossary.reword(t.definition, task) for t in listed if t.definition}


def _warn(study: study_lib.Study, shown: Sequence[results.Result]) -> tuple[str, str]:
    """What was generated and what that means, "" and "" for real images."""
    if not any(result.config.data.get("phantom_images", 0) for result in shown):
        return "", ""
    kind = glossary.reword("X-rays", shown[0].summary.task)
    end = ", and do not compare with the paper's" if study.paper else ""
    warning = f"The numbers say that the pipeline works, nothing about patients{end}."
    return f"Generated {kind} (phantoms).", warning


def _cells(labels: Mapping[str, str], row: rows_lib.Row) -> list[report_tables.Cell]:
    if row.source == "paper":  # With the paper's own decimals.
        numbers = [row.scores.get(key) for key in (*labels, *rows_lib.LOSSES)]
        return [report_tables.Cell(DASH if x is None else str(x), "") for x in numbers]
    losses = [glossary.format_score("loss", row.scores.get(key)) for key in rows_lib.LOSSES]
    return [
        *(
            report_tables.Cell(
                glossary.format_spread(key, row.scores.get(key), row.sds.get(key)),
                glossary.format_note(
                    key, row.intervals.get(key), row.total, row.undefined.get(key, 0)
                ),
            )
            for key in labels
        ),
        *(report_tables.Cell(loss, "") for loss in losses),
    ]


def _facts(shown: Sequence[results.Result]) -> list[str]:
    """What the numbers in the table are."""
    summary = shown[0].summary
    task = summary.task
    sentences = [
        f"Scores of the {summary.split} split, "
        f"{glossary.count(summary.num_images, 'image', task)} of "
        f"{glossary.count(summary.num_patients, 'patient', task)}, with 95 % intervals over "
        "the patients.",
        *notes.warn_of_few(summary),
        "Losses are those of the last epoch; runs that minimise different losses can't be compared "
        "by them.",
    ]
    others: dict[int, list[str]] = {}
    for result in shown:
        others.setdefault(result.summary.num_images, []).append(result.run.label)
    del others[summary.num_images]
    return sentences + [
        f"{'; '.join(who)}: {glossary.count(num, f'{summary.split} image', task)}."
        for num, who in others.items()
    ]


def _describe_groups(table: Sequence[rows_lib.Row]) -> list[str]:
    """What the rows of several runs are, where there are any."""
    sources = {row.source for row in table}
    sentences = {
        "mean": "Means of several runs: after \N{PLUS-MINUS SIGN} the standard deviation over them "
        "(n - 1), squares in the figure. It is of all that differs between them: fold, or seed and "
        "with it the split where that is drawn.",
        "all": "Volumes together: each as the network saw it that was not trained on it; mean over "
        "the volumes, interval over their patients.",
    }
    return [text for source, text in sentences.items() if source in sources]


def _describe_undefined(labels: Mapping[str, str], shown: Sequence[results.Result]) -> list[str]:
    """Whom a mean leaves out: a network that finds nothing must not gain by it in silence."""
    sentences = []
    lack = {
        key: [each.run.label for each in shown if each.summary.scores.get(key, 0) is None]
        for key in labels
    }
    sentences += [
        f"{labels[key]}: has no value, being 0 / 0, in {', '.join(runs)}."
        for key, runs in lack.items()
        if runs
    ]
    for key, label in labels.items():
        counts = {result.run.label: result.summary.undefined.get(key, 0) for result in shown}
        told = "; ".join(f"{run} {count}" for run, count in counts.items() if count)
        if told:
            kind = glossary.reword("images", shown[0].summary.task)
            sentences.append(f"{label}: some {kind} have none and are left out: {told}.")
    return sentences


def _describe_chart(labels: Mapping[str, str], table: Sequence[rows_lib.Row], split: str) -> str:
    """From which row to which every score goes."""
    parts = [f"{split.capitalize()} scores of every run with 95 % intervals."]
    for key, label in labels.items():
        drawn = {row.heading: row.scores.get(key) for row in table if row.in_chart}
        known = sorted((x, who) for who, x in drawn.items() if _is_known(x))
        if known:
            ends = dict.fromkeys((known[0], known[-1]))  # One end if there is one row.
            told = [f"{glossary.format_score(key, x)} ({who})" for x, who in ends]
            parts.append(f"{label}: {' to '.join(told)}.")
    return " ".join(parts)


def _describe_images(images: outputs.Outputs) -> str:
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


def _describe_outputs(images: outputs.Outputs) -> str:
    numbers = ", ".join(map(str, images.numbers))
    return (
        f"Input, annotation and raw output of {', '.join(images.labels)}, "
        f"for the test images no. {numbers}."
    )


def _describe_run(result: results.Result) -> RunFacts:
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


def _headlines(result: results.Result) -> dict[str, report_tables.Cell]:
    summary = result.summary
    headlines = {}
    for key in terms.HEADLINES.get(summary.task, ()):
        if _is_known(summary.scores.get(key)):
            term = glossary.find_term(key, summary.task, summary.levels)
            text = glossary.format_score(key, summary.scores[key])
            interval = glossary.format_interval(key, summary.intervals.get(key))
            headlines[term.label] = report_tables.Cell(f"{text} {term.unit}".rstrip(), interval)
    return headlines


def _is_known(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
