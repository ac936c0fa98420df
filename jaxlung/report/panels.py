"""Figures 4 to 7 of Nguyen Xuan Minh Vu in one: image, raw and final output, annotation."""

import numpy as np
from matplotlib import artist, colors, lines, patches
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.report import figures, glossary

ANNOTATION_COLOR = "#22d3ee"  # The two differ in brightness too, for the colour-blind.
PREDICTION_COLOR = "#ff5a1f"
# Apart from each other and from any grey, also for the colour-blind: a test holds it.
DIFFERENCES = {
    "true positive": "#3f80ff",
    "false positive: predicted only": "#ffbf00",
    "false negative: annotated only": "#c000c0",
}
OPACITY = 0.6  # Rims of a pixel's width have to show.
COLUMNS = {  # title -> the array of `Panels` that is shown
    "input": "image",
    "raw output": "raw",
    "post-processed": "pred",
    "annotation": "target",
}
MOST_ID_CHARACTERS = 72
# Inches.
SIDE, GAP, TOP, ROW_LABEL, BOTTOM, MARGIN = 2.1, 0.06, 0.32, 0.36, 0.4, 0.15

Box = tuple[float, float, float, float]  # left, right, bottom, top


def image_panels(
    panels: run_files.Panels, *, is_binary: bool, theme: figures.Theme = figures.DARK
) -> mpl_figure.Figure:
    """A row per image, labelled with its kind, id and score; the last column compares.

    Args:
        panels: the images.
        is_binary: the masks are in or out: their difference is coloured. Otherwise outlines of
            prediction and annotation are drawn.
        theme: dark by default, as X-rays are read.
    """
    titles = [*COLUMNS, "difference" if is_binary else "outlines"]
    num_rows, num_pixel_rows, num_pixel_columns = panels.image.shape
    side = SIDE * num_pixel_rows / num_pixel_columns
    width = 2 * MARGIN + len(titles) * (SIDE + GAP) - GAP
    height = TOP + num_rows * (ROW_LABEL + side) + BOTTOM
    figure = figures.new_figure(width, height, theme, "none")
    # One pair of axes in inches: a pair for each image would take seconds.
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
    """ "best: image_17, Dice 0.981"; a very long id loses its middle."""
    image_id = shorten(str(panels.image_id[row]))
    term = glossary.find_term(str(panels.score_name), ())
    return f"{panels.kind[row]}: {image_id}, {term.label} {panels.score[row]:.3f}"


def shorten(image_id: str) -> str:
    """An id that fits a row; a very long one loses its middle."""
    half = MOST_ID_CHARACTERS // 2
    is_long = len(image_id) > MOST_ID_CHARACTERS
    return f"{image_id[:half]}...{image_id[-half:]}" if is_long else image_id


def color_differences(image: np.ndarray, pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The X-ray under a transparent colour wherever the prediction or annotation is.

    Args:
        image: [H, W] uint8.
        pred: [H, W] uint8, foreground above 127.
        target: likewise.

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


def explain_outlines() -> list[artist.Artist]:
    """Handles of a legend."""
    return [
        lines.Line2D([], [], color=PREDICTION_COLOR, linewidth=1.3, label="prediction"),
        lines.Line2D([], [], color=ANNOTATION_COLOR, linewidth=2.8, label="annotation"),
    ]


def _explain_differences() -> list[artist.Artist]:
    return [patches.Patch(color=color, label=label) for label, color in DIFFERENCES.items()]


def add_legend(axes: mpl_axes.Axes, handles: list[artist.Artist], theme: figures.Theme) -> None:
    """A row of keys in the lower left corner."""
    axes.legend(
        handles=handles,
        loc="lower left",  # Seen on a phone before the figure is moved.
        bbox_to_anchor=(0, 0),
        ncols=len(handles),
        frameon=False,
        labelcolor=theme.text,
    )
