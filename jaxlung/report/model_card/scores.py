"""A model card's sections on scores: what they mean, and the tables."""

import dataclasses

from jaxlung.config import run_files
from jaxlung.report import facts, glossary, notes, reliability, sizes, tables, terms, volume_terms
from jaxlung.report.model_card import markdown
from jaxlung.report.model_card import run as run_lib

_RAW = ("mse", "mae", "loss", "loss_excess")


def describe_metrics(run: run_lib.Run) -> list[str]:
    """What the most important scores and their intervals are, and the threshold."""
    main = run.main
    keys = [key for key in terms.HEADLINES.get(run.task, ()) if key in main.scores]
    keys += ["ece", "ace"] if main.calibration else []
    listed = [glossary.find_term(key, run.task, main.levels) for key in keys]
    listed += [terms.INTERVAL_TERM] if main.intervals else []
    listed += [terms.SIZE_TERM] if main.by_size else []
    if run.task == glossary.VOLUME_MASK and main.sd:
        listed.append(volume_terms.SPREAD_TERM)
    sentences = [
        f"**{markdown.escape(term.label)}**:"
        f" {markdown.escape(glossary.reword(term.definition, run.task))}"
        for term in listed
    ]
    sentences.append(glossary.empty_rule(run.task))
    sentences.append(_describe_threshold(run))
    return [markdown.bullets(sentences), "`report.html` has more scores, and explains them."]


def _describe_threshold(run: run_lib.Run) -> str:
    if run.main.threshold is None:
        return "**Threshold**: none is needed."
    origin = facts.find_origin(run.config) if run.config else "from where is not known"
    return f"**Threshold**: {run.main.threshold:.4g}, {origin}."


def lay_out(run: run_lib.Run) -> list[str]:
    """All tables of the main split, what is to be said about them, and the paper's other splits."""
    summary = shorten(run.main)
    parts = [f"Scores of the {summary.split} split, with 95 % intervals in brackets."]
    parts += [markdown.score_table(compare(summary))]
    if sentences := _list_notes(summary, run):
        parts.append(markdown.bullets(sentences))
    at_size = "" if summary.task == glossary.VOLUME_MASK else ", at the network's size"
    more = {
        "At the images' stored size": tables.stored_table([summary]),
        "By level": tables.level_table([summary]),
        "By group": tables.group_table(summary) if summary.by_group else None,
        f"By size of {markdown.escape(summary.levels[-1])}{at_size}": sizes.size_table(summary),
        "Images by what they are and what they are called": tables.confusion_table(summary),
        "Other splits that the paper has numbers of": _compare_others(run),
    }
    for title, table in more.items():
        parts += [f"### {title}", markdown.score_table(table)] if table else []
    return parts


def shorten(summary: run_files.Summary) -> run_files.Summary:
    """Without scores that few readers want: of the raw output and of pooled pixels.

    Those that the paper reports stay.
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
        f"**{markdown.escape(tables.spell(name))}**: without a network,"
        f" {markdown.escape(each['description'])}."
        for name, each in summary.baselines.items()
    ]
    if any(each.paper for each in run.summaries):
        of = "of patients, so not to be compared" if run.is_phantom else "on its own images"
        sentences.append(f"**paper**: what the publication that this config follows reports, {of}.")
    if summary.calibration:
        sentences.append(f"**Calibration**: {reliability.title_of(summary.calibration)}.")
    shown = [each for each in run.summaries if each.paper and each is not run.main]
    undefined_and_paper = notes.list_notes(
        [dataclasses.replace(each, intervals={}) for each in (*shown, summary)],
        facts.find_paper_note(run.config),
    )
    return [*sentences, *map(markdown.escape, undefined_and_paper)]


def compare(summary: run_files.Summary) -> tables.Table:
    """Network, paper and baselines side by side, a row for every score of the network's."""
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
