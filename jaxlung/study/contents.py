"""The text of a study, made once for both Markdown and HTML."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxlung.report import facts, glossary, notes, terms
from jaxlung.report import tables as report_tables
from jaxlung.study import (
    comparison,
    comparison_text,
    outputs,
    results,
    run_facts,
    sweep_contents,
    sweep_results,
)
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

DASH = "\N{EN DASH}"
STYLES = {"run": "", "mean": "strong", "all": "strong", "paper": "paper"}  # by source of the row


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the score table.

    Attributes:
        heading: Label of the row.
        cells: A score or loss each, with its interval or "".
        style: "", "strong" or "paper".
    """

    heading: str
    cells: list[report_tables.Cell]
    style: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything on a study's page except the figures; the text is not escaped.

    Attributes:
        title: The study's title, one line.
        generated: "Generated X-rays (phantoms)." or "".
        warning: The meaning of `generated` for the scores, or "".
        labels: Score -> its name with its unit, the heads of the table's score columns.
        lines: Rows of the table; each has a cell per score and two for the losses.
        sentences: Remarks on the table, the study's notes first; `code` in backticks.
        chart: Alternative text of the chart.
        differences: The differences between rows; None for a study of one row.
        images: The images in the figure of outputs, and why these; "" without that figure.
        outputs: Alternative text of that figure; "" without it.
        runs: Facts about all runs, including those without a row.
        definitions: Label -> definition of each score.
        empty_rule: The rule for empty masks and for scores without a value.
        sweep: The sections of a sweep; None for none.
    """

    title: str
    generated: str
    warning: str
    labels: dict[str, str]
    lines: list[Line]
    sentences: list[str]
    chart: str
    differences: comparison_text.Section | None
    images: str
    outputs: str
    runs: list[run_facts.RunFacts]
    definitions: dict[str, str]
    empty_rule: str
    sweep: sweep_contents.SweepContents | None = None

    @property
    def columns(self) -> list[str]:
        """Returns the heads of the table, after the column of the rows' labels."""
        return [*self.labels.values(), "training loss", "validation loss"]


def make(
    study: study_lib.Study,
    found: Sequence[results.Result],
    table: Sequence[rows_lib.Row],
    images: outputs.Outputs | None,
    compared: comparison.Comparison | None = None,
    swept: sweep_results.SweepResults | None = None,
) -> Contents:
    """Returns the text of a study whose runs are finished.

    Args:
        study: The study.
        found: Results of all runs, including those without a row.
        table: Rows of the score table.
        images: Content of the figure of outputs; None for no such figure.
        compared: Differences between rows; None for a study of one row.
        swept: Results of the sweep that chose the run; None for none.
    """
    shown = [result for result in found if result.run.in_table]
    first = shown[0].summary
    columns = {key: glossary.find_term(key, first.task, first.levels) for key in study.columns}
    labels = {key: glossary.label_with_unit(term) for key, term in columns.items()}
    generated, warning = _warn(study, shown)
    return Contents(
        title=study.title,
        generated=generated,
        warning=warning,
        labels=labels,
        lines=[Line(row.heading, _cells(labels, row), STYLES[row.source]) for row in table],
        sentences=[
            *study.notes,
            *_describe_scores(shown),
            *_describe_groups(table, first.task),
            *_describe_unpooled(labels, table),
            *_describe_undefined(labels, shown),
        ],
        chart=_describe_chart(labels, table, study.split),
        differences=comparison_text.make(compared, labels, first.task) if compared else None,
        images=_describe_images(images) if images else "",
        outputs=_describe_outputs(images) if images else "",
        runs=[run_facts.make(result) for result in found],
        definitions={
            term.label: glossary.reword(term.definition, first.task)
            for term in (*columns.values(), terms.INTERVAL_TERM)
            if term.definition
        },
        empty_rule=glossary.empty_rule(first.task),
        sweep=sweep_contents.make(swept, first.task, study.split) if swept else None,
    )


def _warn(study: study_lib.Study, shown: Sequence[results.Result]) -> tuple[str, str]:
    """Returns what was generated and what that means; "" and "" for images of patients."""
    if not any(facts.is_phantom(result.config.to_dict()) for result in shown):
        return "", ""
    kind = glossary.reword("X-rays", shown[0].summary.task)
    end = " and cannot be compared with the paper's" if study.paper else ""
    warning = f"The scores show that the program works. They say nothing about patients{end}."
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


def _describe_scores(shown: Sequence[results.Result]) -> list[str]:
    """Returns which split the scores are from, and remarks on intervals and losses."""
    folds = _find_folds(shown)
    parts = [fold.summary for fold in folds] or [shown[0].summary]
    summary = parts[0]
    task = summary.task
    sentences = [
        f"Scores are from the {summary.split} split: "
        f"{glossary.count(sum(part.num_images for part in parts), 'image', task)} of "
        f"{glossary.count(sum(part.num_patients for part in parts), 'patient', task)}"
        f"{f' in {len(parts)} folds' if folds else ''}, with 95 % intervals over patients.",
        *notes.warn_of_few(min(parts, key=lambda part: part.num_patients)),
        "Losses are from the last epoch. They cannot be compared between runs that minimise "
        "different loss functions.",
    ]
    others: dict[int, list[str]] = {}
    for result in shown:
        if not (folds and results.is_fold(result)):
            others.setdefault(result.summary.num_images, []).append(result.run.label)
    if not folds:
        del others[summary.num_images]
    return sentences + [
        f"{'; '.join(who)}: {glossary.count(num, f'{summary.split} image', task)}."
        for num, who in others.items()
    ]


def _find_folds(shown: Sequence[results.Result]) -> list[results.Result]:
    """Returns the folds of the first run's cross-validation and seed; [] without several."""
    first = shown[0]
    key = (first.run.group, first.config.seed)
    folds = [x for x in shown if results.is_fold(x) and (x.run.group, x.config.seed) == key]
    return folds if first in folds and first.run.group and len(folds) > 1 else []


def _describe_groups(table: Sequence[rows_lib.Row], task: str) -> list[str]:
    """Returns an explanation of the rows of several runs, where there are any."""
    is_mean = any(row.source == "mean" for row in table)
    every = [row for row in table if row.source == "all"]
    sentences = []
    if is_mean:
        sentences.append(
            "Means over several runs are followed by \N{PLUS-MINUS SIGN} and a standard deviation "
            "(SD, n - 1), and are squares in the figure. Over folds it says how scores differ "
            "between the parts of the data, over seeds how they differ between trainings; a seed "
            "may also set the split. Neither is a confidence interval."
        )
    if every:
        sentences.append(
            "Rows out of fold take the images of all folds together: each image is scored by the "
            "run that was not trained on it. In small print is the 95 % interval over patients. "
            "With several seeds the score is the mean over the seeds, not that of their ensemble."
        )
    if any("auc" in row.scores for row in every):
        sentences.append(
            "AUC out of fold ranks the probabilities of all folds together, so it can be lower "
            "than that of each fold if the networks of the folds are calibrated differently. The "
            "mean over folds is of each fold's own AUC."
        )
    return [glossary.reword(sentence, task) for sentence in sentences]


def _describe_unpooled(labels: Mapping[str, str], table: Sequence[rows_lib.Row]) -> list[str]:
    """Returns which scores have no out-of-fold value because older tables lack what it needs."""
    known = {key for row in table if row.source == "run" for key in row.scores}
    pooled = [row.scores for row in table if row.source == "all"]
    lacking = [labels[key] for key in labels if key in known and any(key not in x for x in pooled)]
    if not lacking:
        return []
    return [
        f"{glossary.join(lacking)}: no value out of fold, as an earlier version scored the runs; "
        "`jaxlung evaluate --workdir=RUN --split=test` of each run adds what is needed."
    ]


def _describe_undefined(labels: Mapping[str, str], shown: Sequence[results.Result]) -> list[str]:
    """Returns which means leave images out: finding nothing must not raise a score unnoticed."""
    sentences = []
    lack = {
        key: [each.run.label for each in shown if each.summary.scores.get(key, 0) is None]
        for key in labels
    }
    sentences += [
        f"{labels[key]}: no value (0 / 0) in {', '.join(runs)}."
        for key, runs in lack.items()
        if runs
    ]
    for key, label in labels.items():
        counts = {result.run.label: result.summary.undefined.get(key, 0) for result in shown}
        listed = ", ".join(f"{count} in {run}" for run, count in counts.items() if count)
        if listed:
            kind = glossary.reword("images", shown[0].summary.task)
            sentences.append(f"{label}: {kind} without a value are left out: {listed}.")
    return sentences


def _describe_chart(labels: Mapping[str, str], table: Sequence[rows_lib.Row], split: str) -> str:
    """Returns the lowest and highest row of each score, as the chart's alternative text."""
    parts = [f"{split.capitalize()} scores of every run with 95 % intervals."]
    for key, label in labels.items():
        drawn = {row.heading: row.scores.get(key) for row in table if row.in_chart}
        known = sorted((x, who) for who, x in drawn.items() if run_facts.is_known(x))
        if known:
            ends = dict.fromkeys((known[0], known[-1]))  # One end if there is one row.
            shown = [f"{glossary.format_score(key, x)} ({who})" for x, who in ends]
            parts.append(f"{label}: {' to '.join(shown)}.")
    return " ".join(parts)


def _describe_images(images: outputs.Outputs) -> str:
    """Returns which test images the figure shows, and why these."""
    named = [
        f"no. {number} ({image_id})"
        for number, image_id in zip(images.numbers, images.image_ids, strict=True)
    ]
    text = f"Test images {', '.join(named)}, counted from 1 in the order of `splits.csv`."
    if max(images.wanted) <= images.num_images:
        return text
    wanted = glossary.join([*map(str, images.wanted)])
    return (
        f"{text} The study asks for no. {wanted}, but the split has only {images.num_images} "
        "images."
    )


def _describe_outputs(images: outputs.Outputs) -> str:
    numbers = glossary.join([*map(str, images.numbers)])
    return (
        f"Input, annotation and raw output of {', '.join(images.labels)}, "
        f"for test images {numbers}."
    )
