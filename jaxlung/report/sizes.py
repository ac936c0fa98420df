"""Table of scores by the size of the annotated structure."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxlung.config import run_files
from jaxlung.report import glossary, tables

QUARTILES = ("smallest", "second", "third", "largest")
SCORES = ("dice", "iou")


def size_table(summary: run_files.Summary) -> tables.Table | None:
    """Returns a row per quartile of annotated size, and one for images without annotation.

    Its columns are the sizes, the number of images, Dice and IoU of the last level, and the number
    of images where none of it was found. Returns None if the run has no sizes.
    """
    if not summary.by_size:
        return None
    unit = summary.by_size["unit"]
    rows = [
        tables.Row(name, _cells(part, format_range(part["range"], unit)))
        for name, part in zip(QUARTILES, summary.by_size["quartiles"], strict=True)
    ]
    if summary.by_size["without"]["num_images"]:
        rows.append(tables.Row("none", _cells(summary.by_size["without"], "0")))
    heads = [
        f"Annotated, {glossary.reword(unit, summary.task)}",
        glossary.reword("images", summary.task).capitalize(),
        *(glossary.find_term(name).label for name in SCORES),
        "Nothing found",
    ]
    return tables.Table([tables.Column(head) for head in heads], [tables.Block("", rows)])


def format_range(ends: Sequence[float], unit: str) -> str:
    """Returns a range in its unit: "1,204\N{EN DASH}3,310" or, in mL, "0.52\N{EN DASH}12.08"."""
    return "\N{EN DASH}".join(f"{end:,.2f}" if unit == "mL" else f"{end:,.0f}" for end in ends)


def _cells(part: Mapping[str, Any], sizes: str) -> list[tables.Cell | None]:
    # Without annotation, scores are 1 or 0: the last column has the same information.
    scores, intervals = part.get("scores", {}), part.get("intervals", {})
    return [
        tables.Cell(sizes),
        tables.Cell(f"{part['num_images']:,}"),
        *(
            tables.Cell(
                glossary.format_score(name, scores.get(name)),
                glossary.format_interval(name, intervals.get(name)),
            )
            for name in SCORES
        ),
        tables.Cell(f"{part['num_nothing_found']:,}"),
    ]
