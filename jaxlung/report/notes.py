"""Sentences below the tables: what is between the numbers and their reading."""

from collections.abc import Sequence

from jaxlung.report import glossary, run_files


def list_notes(summaries: Sequence[run_files.Summary], paper_note: str = "") -> list[str]:
    """Whatever there is to say on intervals, images left out and the paper.

    Args:
        summaries: of one split or more.
        paper_note: what the config says about the paper's numbers, or "".
    """
    papers = [summary.paper for summary in summaries if summary.paper]
    notes = [
        _note_on_intervals(summaries),
        *map(_note_on_undefined, summaries),
        _note_on_paper(papers[-1], summaries[0].task, paper_note) if papers else "",
    ]
    return [note for note in notes if note]


def _note_on_intervals(summaries: Sequence[run_files.Summary]) -> str:
    if not any(summary.intervals for summary in summaries):
        return ""
    note = "The small number pairs are 95 % intervals, from bootstrap resamples of "
    if any(summary.num_patients != summary.num_images for summary in summaries):
        return note + glossary.reword("patients, each with all of their images.", summaries[0].task)
    return note + glossary.reword(
        "images: as far as is known, each shows a patient of its own.", summaries[0].task
    )


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
