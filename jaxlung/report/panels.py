"""Images with raw and final output, annotation, and the difference.

They show what Nguyen Xuan Minh Vu (2024) shows in Figures 4 to 7.
"""

import numpy as np
from matplotlib import artist, colors, lines, patches
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.report import figures, glossary

ANNOTATION_COLOR = "#22d3ee"  # Both colours differ in brightness too, for the colour-blind.
PREDICTION_COLOR = "#ff5a1f"
# Distinct from each other and from any grey, also for the colour-blind (see the test).
DIFFERENCES = {
    "true positive": "#3f80ff",
    "false positive: predicted only": "#ffbf00",
    "false negative: annotated only": "#c000c0",
}
OPACITY = 0.6  # Edges one pixel wide have to be visible.
COLUMNS = {  # title -> array of `Panels` that is shown
    "input": "image",
    "raw output": "raw",
    "post-processed": "pred",
    "annotation": "target",
}
MOST_ID_CHARACTERS = 72
# In inches.
SIDE, GAP, TOP, ROW_LABEL, BOTTOM, MARGIN = 2.1, 0.06, 0.32, 0.36, 0.4, 0.15

Box = tuple[float, float, float, float]  # left, right, bottom, top


def image_panels(
    panels: run_files.Panels, *, is_binary: bool, theme: figures.Theme = figures.DARK
) -> mpl_figure.Figure:
    """Draws a row per image, labelled with its kind, id and score.

    Args:
        panels: The images.
        is_binary: True if masks are binary. Then the last column colours the difference;
            otherwise it draws the outlines of prediction and annotation.
        theme: Colours; dark by default, as X-rays are read on dark screens.
    """
    titles = [*COLUMNS, "difference" if is_binary else "outlines"]
    num_rows, num_pixel_rows, num_pixel_columns = panels.image.shape
    side = SIDE * num_pixel_rows / num_pixel_columns
    width = 2 * MARGIN + len(titles) * (SIDE + GAP) - GAP
    height = TOP + num_rows * (ROW_LABEL + side) + BOTTOM
    figure = figures.new_figure(width, height, theme)
    # One axes object in inches for all images: one for each would take seconds.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    for row in range(num_rows):
        bottom = height - TOP - (row + 1) * (ROW_LABEL + side)
        label = figures.in_font(describe_panel(panels, row))
        axes.text(MARGIN, bottom + side + 0.08, label, color=theme.text, parse_math=False)
        for column, title in enumerate(titles):
            left = MARGIN + column * (SIDE + GAP)
            _draw_image(axes, panels, row, title, (left, left + SIDE, bottom, bottom + side))
    for column, title in enumerate(titles):
        axes.text(MARGIN + column * (SIDE + GAP), height - 0.24, title, color=theme.muted)
    add_legend(axes, _explain_differences() if is_binary else explain_outlines(), theme)
    return figure


def describe_panel(panels: run_files.Panels, row: int) -> str:
    """Returns the label of a row: "best: image_17, Dice 0.981"."""
    image_id = shorten(str(panels.image_id[row]))
    term = glossary.find_term(str(panels.score_name))
    return f"{panels.kind[row]}: {image_id}, {term.label} {panels.score[row]:.3f}"


def shorten(image_id: str) -> str:
    """Returns an id that fits on a row, without its middle if it is very long."""
    half = MOST_ID_CHARACTERS // 2
    is_long = len(image_id) > MOST_ID_CHARACTERS
    return f"{image_id[:half]}...{image_id[-half:]}" if is_long else image_id


def color_differences(image: np.ndarray, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the image with the prediction and annotation in transparent colours.

    Args:
        image: [H, W] uint8.
        pred: [H, W] uint8 prediction, foreground above 127.
        target: [H, W] uint8 annotation, foreground above 127.

    Returns:
        [H, W, 3] float64 in [0, 1].
    """
    colored = np.repeat(image[..., None] / 255, 3, axis=-1)
    predicted, annotated = pred > 127, target > 127
    parts = (predicted & annotated, predicted & ~annotated, ~predicted & annotated)
    for part, color in zip(parts, DIFFERENCES.values(), strict=True):
        colored[part] = (1 - OPACITY) * colored[part] + OPACITY * np.array(colors.to_rgb(color))
    return colored


def _draw_image(
    axes: mpl_axes.Axes, panels: run_files.Panels, row: int, title: str, box: Box
) -> None:
    if title == "difference":
        colored = color_differences(panels.image[row], panels.pred[row], panels.target[row])
        axes.imshow(colored, extent=box, aspect="auto")
        return
    name = COLUMNS.get(title, "image")
    highest = 1 if name == "raw" else 255
    axes.imshow(getattr(panels, name)[row], "gray", vmin=0, vmax=highest, extent=box, aspect="auto")
    if title == "outlines":
        draw_outlines(axes, panels.target[row], box, ANNOTATION_COLOR, 2.8)
        draw_outlines(axes, panels.pred[row], box, PREDICTION_COLOR, 1.3)


def draw_outlines(
    axes: mpl_axes.Axes, greys: np.ndarray, box: Box, color: str, linewidth: float
) -> None:
    """Draws a line around all levels above the lowest, and a dashed line around the highest."""
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


def explain_outlines() -> list[artist.Artist]:
    """Returns the legend handles of prediction and annotation."""
    return [
        lines.Line2D([], [], color=PREDICTION_COLOR, linewidth=1.3, label="prediction"),
        lines.Line2D([], [], color=ANNOTATION_COLOR, linewidth=2.8, label="annotation"),
    ]


def _explain_differences() -> list[artist.Artist]:
    return [patches.Patch(color=color, label=label) for label, color in DIFFERENCES.items()]


def add_legend(axes: mpl_axes.Axes, handles: list[artist.Artist], theme: figures.Theme) -> None:
    """Adds a legend in one row, in the lower left corner."""
    axes.legend(
        handles=handles,
        loc="lower left",  # Visible on a phone without scrolling.
        bbox_to_anchor=(0, 0),
        ncols=len(handles),
        frameon=False,
        labelcolor=theme.text,
    )
