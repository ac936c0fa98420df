"""The sections of a model card on scores: their definitions and the tables."""

import dataclasses

from jaxlung.config import run_files
from jaxlung.report import (
    facts,
    glossary,
    markdown,
    notes,
    reliability,
    sizes,
    tables,
    terms,
    volume_terms,
)
from jaxlung.report import run as run_lib

_RAW = ("mse", "mae", "loss", "loss_excess")


def describe_metrics(run: run_lib.Run) -> list[str]:
    """Returns the definitions of the main scores and their intervals, and the threshold."""
    main = run.main
    keys = [key for key in run.words.headlines if key in main.scores]
    keys += ["ece", "ace"] if main.calibration else []
    listed = [glossary.find_term(key, run.task, main.levels) for key in keys]
    listed += [terms.TEMPERATURE_TERM] if main.temperature is not None else []
    listed += [terms.INTERVAL_TERM] if main.intervals else []
    listed += [terms.SIZE_TERM] if main.by_size else []
    if run.words.is_volumetric and main.sd:
        listed.append(volume_terms.SPREAD_TERM)
    sentences = [
        f"**{markdown.escape(term.label)}**:"
        f" {markdown.escape(glossary.reword(term.definition, run.task))}"
        for term in listed
    ]
    sentences.append(markdown.escape(glossary.empty_rule(run.task)))
    sentences.append(_describe_threshold(run))
    return [markdown.bullets(sentences), "`report.html` shows and explains further scores."]


def _describe_threshold(run: run_lib.Run) -> str:
    if run.main.threshold is None:
        return "**Threshold**: this task needs none."
    origin = facts.find_origin(run.config) if run.config else "of unknown origin"
    return f"**Threshold**: {run.main.threshold:.4g}, {origin}."


def lay_out(run: run_lib.Run) -> list[str]:
    """Returns the tables of the main split with their notes, and other published scores."""
    summary = shorten(run.main)
    parts = [f"Scores of the {summary.split} split, with 95 % intervals in brackets."]
    parts += [markdown.score_table(compare(summary))]
    if sentences := _list_notes(summary, run):
        parts.append(markdown.bullets(sentences))
    at_size = "" if run.words.is_volumetric else ", at the network's image size"
    more = {
        "At the images' stored size": tables.stored_table([summary]),
        "By level": tables.level_table([summary]),
        "By group": tables.group_table(summary) if summary.by_group else None,
        f"By size of {markdown.escape(summary.levels[-1])}{at_size}": sizes.size_table(summary),
        "Correct and wrong classifications": tables.confusion_table(summary),
        "Other splits with published scores": _compare_others(run),
    }
    for title, table in more.items():
        parts += [f"### {title}", markdown.score_table(table)] if table else []
    return parts


def shorten(summary: run_files.Summary) -> run_files.Summary:
    """Returns the scores without those of the raw output and of pooled pixels.

    Few readers want these; they stay if the paper reports them.
    """
    kept = {
        key: score
        for key, score in summary.scores.items()
        if key in summary.paper
        or not (key in _RAW or key.removesuffix(terms.STORED).endswith("_pooled"))
    }
    return dataclasses.replace(summary, scores=kept)


def _compare_others(run: run_lib.Run) -> tables.Table | None:
    others = [shorten(each) for each in run.summaries if each.paper and each is not run.main]
    return tables.split_table(others) if others else None


def _list_notes(summary: run_files.Summary, run: run_lib.Run) -> list[str]:
    sentences = [
        f"**{markdown.escape(tables.spell(name))}**: a baseline without a network,"
        f" {markdown.escape(each['description'])}."
        for name, each in summary.baselines.items()
    ]
    if any(each.paper for each in run.summaries):
        images = (
            "images of patients, so the two cannot be compared"
            if run.is_phantom
            else "its own images"
        )
        sentences.append(
            f"**paper**: scores from the publication that this config follows, on {images}."
        )
    if summary.calibration:
        sentences.append(f"**Calibration**: {reliability.title_of(summary.calibration)}.")
    if summary.calibration_before:
        without = reliability.title_of(summary.calibration_before)
        sentences.append(f"**Calibration without the temperature**: {without}.")
    shown = [each for each in run.summaries if each.paper and each is not run.main]
    undefined_and_paper = notes.list_notes(
        [dataclasses.replace(each, intervals={}) for each in (*shown, summary)],
        facts.find_paper_note(run.config),
    )
    return [*sentences, *map(markdown.escape, undefined_and_paper)]


def compare(summary: run_files.Summary) -> tables.Table:
    """Returns network, paper and baselines side by side, with a row per score of the network."""
    ours = tables.split_table([summary])
    columns = [tables.Column("network"), *ours.columns[1:]]
    cells = {}
    if summary.baselines:
        others = tables.baseline_table(summary)
        columns += [tables.Column(column.head) for column in others.columns[1:]]
        cells = {(block.title, row.label): row.cells[1:] for block, row in _rows(others)}
    missing = [tables.Cell("")] * len(summary.baselines)
    blocks = [
        tables.Block(
            block.title,
            [
                tables.Row(row.label, [*row.cells, *cells.get((block.title, row.label), missing)])
                for row in block.rows
            ],
        )
        for block in ours.blocks
    ]
    return tables.Table(columns, blocks)


def _rows(table: tables.Table) -> list[tuple[tables.Block, tables.Row]]:
    return [(block, row) for block in table.blocks for row in block.rows]
