"""Plot of predicted against annotated volume, and the table of single volumes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.report import figures, glossary, tables, volume_files

MARKERS = {"train": "o", "validation": "s", "test": "^"}
# Scores of Lin and Huang, Table 4, and further ones.
SUBJECT_COLUMNS = {
    "dice": "Dice",
    "sensitivity": "Sensitivity",
    "iou": "IoU",
    "precision": "Precision",
    "hd95": "HD95, mm",
    "volume_ml": "Pred. mL",
    "true_volume_ml": "True mL",
    "share": "Pred. % of lungs",
    "true_share": "True % of lungs",
}
PAPER_SCORES = ("dice", "sensitivity", "iou")
PaperSubject = Sequence[Any]  # name of a volume in the paper, its shape, and `PAPER_SCORES`


def scatter(
    amounts: Mapping[str, volume_files.Amounts],
    target: str,
    theme: figures.Theme = figures.LIGHT,
) -> mpl_figure.Figure:
    """Draws a point per volume, with a line where predicted equals annotated.

    Args:
        amounts: Split -> its volumes, one or more.
        target: Name of the segmented structure.
        theme: Colours of the page.
    """
    figure = figures.new_figure(10.6, 4.9, theme, "constrained")
    axes = figure.subplots()
    figures.style(axes, theme)
    colors = {"train": theme.muted, "validation": theme.first, "test": theme.second}
    most = max(max(each.predicted.max(), each.annotated.max()) for each in amounts.values())
    end = 1.05 * most or 1.0
    axes.plot([0, end], [0, end], color=theme.muted, linewidth=0.8, linestyle="--", label="equal")
    for split, each in amounts.items():
        number = len(each.predicted)
        label = f"{split}: {number:,} volume{'' if number == 1 else 's'}"
        axes.plot(
            each.annotated,
            each.predicted,
            linestyle="",
            label=label,
            color=colors[split],
            marker=MARKERS[split],
            markersize=8,
            alpha=0.85,
        )
    axes.set(xlim=(-0.02 * end, end), ylim=(-0.02 * end, end), aspect="equal")
    axes.set_xlabel(figures.in_font(f"{target} annotated, mL"), color=theme.muted)
    axes.set_ylabel(figures.in_font(f"{target} predicted, mL"), color=theme.muted)
    axes.legend(frameon=False, labelcolor=theme.text, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def subject_table(
    rows: Sequence[Mapping[str, str]], paper: Sequence[PaperSubject] = ()
) -> tables.Table | None:
    """Returns a row per volume with its shape, spacing, scores and volumes in mL.

    Args:
        rows: Rows of `scores_<split>.csv`.
        paper: The paper's volumes, shown in a block of their own.

    Returns:
        The table; None if the rows are not of volumes.
    """
    if not rows or not {"shape", "spacing_mm"} <= rows[0].keys():
        return None
    shown = {key: head for key, head in SUBJECT_COLUMNS.items() if key in rows[0]}
    heads = ["Shape", "Spacing, mm", *shown.values()]
    lines = [
        tables.Row(
            row["image_id"],
            [
                tables.Cell(row["shape"]),
                tables.Cell(row["spacing_mm"]),
                *(
                    tables.Cell(glossary.format_score(key, run_files.to_number(row[key])))
                    for key in shown
                ),
            ],
        )
        for row in rows
    ]
    blocks = [tables.Block("", lines)]
    if paper:
        title = (
            "The paper's test volumes, named by letters as in the paper; shapes have slices last"
        )
        blocks.append(tables.Block(title, [_paper_row(subject, shown) for subject in paper]))
    return tables.Table([tables.Column(head) for head in heads], blocks)


def _paper_row(subject: PaperSubject, shown: Collection[str]) -> tables.Row:
    name, shape, *scores = subject
    texts = dict(zip(PAPER_SCORES, map(glossary.format_paper, scores), strict=True))
    cells = [" x ".join(map(str, shape)), "", *(texts.get(key, "") for key in shown)]
    return tables.Row(name, [tables.Cell(text) for text in cells])
