"""The paper's figures 4 to 7 in one: image, output, post-processed output and annotation."""

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import lines

from jaxlung.report import figures, glossary, run_files

ANNOTATION_COLOR = "#22d3ee"  # The two differ in brightness too, for the colour-blind.
PREDICTION_COLOR = "#ff5a1f"
COLUMNS = {  # title -> the array of `Panels` that is shown
    "input": "image",
    "raw output": "raw",
    "post-processed": "pred",
    "annotation": "target",
    "outlines": "image",
}
MOST_ID_CHARACTERS = 72
# Inches.
SIDE, GAP, TOP, ROW_LABEL, BOTTOM, MARGIN = 2.1, 0.06, 0.32, 0.36, 0.4, 0.15

Box = tuple[float, float, float, float]  # left, right, bottom, top


def image_panels(
    panels: run_files.Panels, theme: figures.Theme = figures.DARK
) -> mpl_figure.Figure:
    """A row per image, labelled with its kind, id and score; the last column compares outlines.

    Args:
        panels: the images.
        theme: dark by default, as X-rays are read.
    """
    num_rows, num_pixel_rows, num_pixel_columns = panels.image.shape
    side = SIDE * num_pixel_rows / num_pixel_columns
    width = 2 * MARGIN + len(COLUMNS) * (SIDE + GAP) - GAP
    height = TOP + num_rows * (ROW_LABEL + side) + BOTTOM
    figure = figures.new_figure(width, height, theme, "none")
    # One pair of axes in inches: a pair for each image would take seconds.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    for row in range(num_rows):
        bottom = height - TOP - (row + 1) * (ROW_LABEL + side)
        label = figures.in_font(describe_panel(panels, row))
        axes.text(MARGIN, bottom + side + 0.08, label, color=theme.text, parse_math=False)
        for column in range(len(COLUMNS)):
            left = MARGIN + column * (SIDE + GAP)
            _draw_image(axes, panels, row, column, (left, left + SIDE, bottom, bottom + side))
    for column, title in enumerate(COLUMNS):
        axes.text(MARGIN + column * (SIDE + GAP), height - 0.24, title, color=theme.muted)
    _add_legend(axes, theme)
    return figure


def describe_panel(panels: run_files.Panels, row: int) -> str:
    """ "best: image_17, Dice 0.981"; a very long id loses its middle."""
    image_id = str(panels.image_id[row])
    if len(image_id) > MOST_ID_CHARACTERS:
        half = MOST_ID_CHARACTERS // 2
        image_id = f"{image_id[:half]}...{image_id[-half:]}"
    term = glossary.find_term(str(panels.score_name), ())
    return f"{panels.kind[row]}: {image_id}, {term.label} {panels.score[row]:.3f}"


def _draw_image(
    axes: mpl_axes.Axes, panels: run_files.Panels, row: int, column: int, box: Box
) -> None:
    title, name = list(COLUMNS.items())[column]
    highest = 1 if name == "raw" else 255
    image = getattr(panels, name)[row]
    axes.imshow(image, "gray", vmin=0, vmax=highest, extent=box, aspect="auto")
    if title == "outlines":
        _draw_outlines(axes, panels.target[row], box, ANNOTATION_COLOR, 2.8)
        _draw_outlines(axes, panels.pred[row], box, PREDICTION_COLOR, 1.3)


def _draw_outlines(
    axes: mpl_axes.Axes, greys: np.ndarray, box: Box, color: str, linewidth: float
) -> None:
    """A line around everything above the lowest level; a dashed one around the highest."""
    anything, highest = greys > 64, greys > 191
    outlines = {"solid": anything}
    if not np.array_equal(anything, highest):
        outlines["dashed"] = highest
    for style, inside in outlines.items():
        if inside.any() and not inside.all():
            axes.contour(
                inside,
                [0.5],
                colors=color,
                linestyles=style,
                linewidths=linewidth,
                extent=box,
                origin="upper",
            )


def _add_legend(axes: mpl_axes.Axes, theme: figures.Theme) -> None:
    handles = [
        lines.Line2D([], [], color=PREDICTION_COLOR, linewidth=1.3, label="prediction"),
        lines.Line2D([], [], color=ANNOTATION_COLOR, linewidth=2.8, label="annotation"),
    ]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 0),
        ncols=2,
        frameon=False,
        labelcolor=theme.text,
    )
