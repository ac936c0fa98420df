"""Sentences below the tables: what is between the numbers and their reading."""

from collections.abc import Sequence

from jaxlung.config import run_files
from jaxlung.report import glossary

FEW_PEOPLE = 30
COVERAGE = "89 to 100"  # Of 100, in the table of docs/scores.md.


def list_notes(summaries: Sequence[run_files.Summary], paper_note: str = "") -> list[str]:
    """Whatever there is to say on intervals, images left out and the paper.

    Args:
        summaries: of one split or more.
        paper_note: what the config says about the paper's numbers, or "".
    """
    papers = [summary.paper for summary in summaries if summary.paper]
    notes = [
        _note_on_intervals(summaries),
        *warn_of_few(summaries[-1]),
        *map(_note_on_undefined, summaries),
        *map(_note_on_valueless, summaries),
        _note_on_paper(papers[-1], summaries[0].task, paper_note) if papers else "",
    ]
    return [note for note in notes if note]


def _note_on_intervals(summaries: Sequence[run_files.Summary]) -> str:
    if not any(summary.intervals for summary in summaries):
        return ""
    note = "The small number pairs are 95 % intervals: a jackknife over "
    if any(summary.num_patients != summary.num_images for summary in summaries):
        note += "patients, each left out with all of their images."
    else:
        note += "images, as if each showed a patient of its own: none is known to share one."
    return glossary.reword(note, summaries[0].task)


def warn_of_few(summary: run_files.Summary) -> list[str]:
    """How far the intervals of few patients can be trusted; [] of many, or without intervals.

    The shares are those of `docs/scores.md`.
    """
    if not summary.intervals or summary.num_patients >= FEW_PEOPLE:
        return []
    count = glossary.count(summary.num_patients, "patient", summary.task)
    return [
        f"Intervals of {count} are rough. In simulations with 4 to {FEW_PEOPLE} patients, intervals"
        f" that are to hold the true score 95 times of 100 held it {COVERAGE} times."
    ]


def _note_on_undefined(summary: run_files.Summary) -> str:
    """Scores with the same number of images stand together."""
    by_count: dict[int, list[str]] = {}
    for key, count in summary.undefined.items():
        if count:
            label = glossary.find_term(key, summary.task, summary.levels).label
            by_count.setdefault(count, []).append(label)
    if not by_count:
        return ""
    parts = [
        f"{' and '.join(labels)} in {count:,} of {summary.num_images:,} {summary.split}"
        f" {glossary.reword('images', summary.task)}"
        for count, labels in by_count.items()
    ]
    return f"Undefined, and left out of the mean: {'; '.join(parts)}."


def _note_on_valueless(summary: run_files.Summary) -> str:
    """Scores of the split as a whole that are 0 / 0."""
    labels = [
        glossary.find_term(key, summary.task, summary.levels).label
        for key, score in summary.scores.items()
        if score is None and not summary.undefined.get(key, 0)
    ]
    if not labels:
        return ""
    return f"Without a value, being 0 / 0 in the {summary.split} split: {', '.join(labels)}."


def _note_on_paper(paper: run_files.Paper, task: str, paper_note: str) -> str:
    note = f"The paper's numbers have the digits that it prints. {paper_note}".rstrip()
    if task == "mask":
        note += " Where it doesn't say how it averages, they stand beside our means over images."
    if task == glossary.VOLUME_MASK:
        note += " They are means over its four test volumes, which it does not name."
    averaged = task == "three_level" and {"precision", "iou"} <= paper.keys()
    if averaged and paper["iou"] > paper["precision"]:
        note += (
            " It does not say how precision, recall and IoU were averaged, and no one averaging"
            f" gives them all: IoU is never above precision, yet {paper['iou']} stands beside"
            f" {paper['precision']}. So each spans both of ours, macro and micro."
        )
    return note
