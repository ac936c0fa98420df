"""Remarks below the tables, which say how to read the numbers."""

from collections.abc import Sequence

from jaxlung.config import run_files
from jaxlung.report import glossary
from jaxlung.tasks import words

FEW_PEOPLE = 30
COVERAGE = "89 to 100"  # times out of 100, from the table in docs/scores.md


def list_notes(summaries: Sequence[run_files.Summary], paper_note: str = "") -> list[str]:
    """Returns the remarks on intervals, on images left out of means, and on published scores.

    Args:
        summaries: Scores of one or more splits.
        paper_note: The config's remark on the published scores; "" for none.
    """
    with_paper = [summary for summary in summaries if summary.paper]
    notes = [
        _note_on_intervals(summaries),
        *warn_of_few(summaries[-1]),
        *map(_note_on_undefined, summaries),
        *map(_note_on_valueless, summaries),
        _note_on_paper(with_paper[-1], paper_note) if with_paper else "",
    ]
    return [note for note in notes if note]


def _note_on_intervals(summaries: Sequence[run_files.Summary]) -> str:
    if not any(summary.intervals for summary in summaries):
        return ""
    note = "The pairs of numbers in small print are 95 % intervals from a jackknife over "
    if any(summary.num_patients != summary.num_images for summary in summaries):
        note += "patients: each patient is left out with all of their images."
    else:
        note += "images, as if each showed a different patient, as no two are known to share one."
    return glossary.reword(note, summaries[0].task)


def warn_of_few(summary: run_files.Summary) -> list[str]:
    """Returns a warning if the intervals come from few patients; [] otherwise.

    The coverage is from `docs/scores.md`.
    """
    if not summary.intervals or summary.num_patients >= FEW_PEOPLE:
        return []
    count = glossary.count(summary.num_patients, "patient", summary.task)
    return [
        f"Intervals from {count} are rough: in simulations with 4 to {FEW_PEOPLE} patients, 95 %"
        f" intervals contained the true score {COVERAGE} times out of 100."
    ]


def _note_on_undefined(summary: run_files.Summary) -> str:
    """Returns which scores some images lack; scores with the same count are named together."""
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
    """Returns which scores of the whole split are 0 / 0."""
    labels = [
        glossary.find_term(key, summary.task, summary.levels).label
        for key, score in summary.scores.items()
        if score is None and not summary.undefined.get(key, 0)
    ]
    if not labels:
        return ""
    return f"Without a value (0 / 0) in the {summary.split} split: {', '.join(labels)}."


def _note_on_paper(summary: run_files.Summary, paper_note: str) -> str:
    paper = summary.paper
    parts = ["The paper's numbers are shown with the digits that it prints.", paper_note]
    parts.append(words.find(summary.task).paper_note)
    # Keys that are none of our scores: the paper doesn't say how it averages them.
    precision, iou = (
        None if key in summary.scores else paper.get(key) for key in ("precision", "iou")
    )
    if isinstance(precision, float) and isinstance(iou, float) and iou > precision:
        parts.append(
            "The paper does not say how it averages precision, recall and IoU, and no single kind"
            f" of average gives all of them: IoU is never above precision, yet its IoU is {iou}"
            f" and its precision {precision}. Each of its numbers is therefore shown next to both"
            " our macro and our micro average."
        )
    return " ".join(filter(None, parts))
