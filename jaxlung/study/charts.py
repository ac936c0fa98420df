"""Figures of a study: scores side by side, their differences, and images with each run's output."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.report import figures
from jaxlung.study import comparison, comparison_text, outputs
from jaxlung.study import rows as rows_lib

SIDE, MARGIN = 2.1, 0.15  # inches
MARKS = {  # source of a row -> marker, and colour in the theme
    "run": ("o", "first"),
    "mean": ("s", "text"),
    "all": ("o", "text"),
    "paper": ("D", "second"),
}


def score_chart(
    columns: Mapping[str, str],
    shown: Sequence[rows_lib.Row],
    theme: figures.Theme = figures.LIGHT,
) -> mpl_figure.Figure:
    """Draws a small chart per score, with a point and a 95 % interval per run.

    The paper's scores are diamonds. Means over several runs are squares, with one standard
    deviation to either side.

    Args:
        columns: Score -> its label.
        shown: Rows of the table.
        theme: Colours of the page.
    """
    across = {1: 1, 2: 2, 4: 2}.get(len(columns), 3)
    down = -(-len(columns) // across)
    drawn = [row for row in shown if row.in_chart]
    figure = figures.new_figure(10.6, down * (0.9 + 0.34 * len(drawn)), theme, "constrained")
    all_axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, (key, label) in zip(all_axes, columns.items(), strict=False):
        _draw_score(axes, key, drawn, theme)
        axes.set_title(figures.in_font(label), loc="left", color=theme.text, fontsize=11)
    for axes in all_axes[len(columns) :]:
        axes.set_axis_off()
    headings = [figures.in_font(row.heading) for row in drawn]
    all_axes[0].set_yticks(range(len(drawn)), headings)
    all_axes[0].set_ylim(len(drawn) - 0.5, -0.5)  # The first run is on top, as in the table.
    return figure


def _draw_score(
    axes: mpl_axes.Axes, key: str, drawn: Sequence[rows_lib.Row], theme: figures.Theme
) -> None:
    figures.style(axes, theme)
    for place, row in enumerate(drawn):
        marker, role = MARKS[row.source]
        colour = getattr(theme, role)
        ends = [math.nan if x is None else x for x in row.bar(key)]
        axes.plot(ends, [place, place], color=colour, linewidth=2)
        value = row.scores.get(key)
        axes.plot([math.nan if value is None else value], [place], marker, color=colour)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))


def difference_chart(
    section: comparison_text.Section, theme: figures.Theme = figures.LIGHT
) -> mpl_figure.Figure:
    """Draws a forest plot per score: a difference with its 95 % interval per pair, and a line at 0.

    Differences beyond chance are filled points, all others are hollow.

    Args:
        section: The differences, one or more, and the labels of their scores.
        theme: Colours of the page.
    """
    labels, found = section.labels, section.comparison.differences
    pairs = [*dict.fromkeys(map(comparison_text.name_pair, found))]
    across = 1 if len(labels) == 1 else 2
    down = -(-len(labels) // across)
    figure = figures.new_figure(10.6, down * (0.9 + 0.34 * len(pairs)), theme, "constrained")
    all_axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, (key, label) in zip(all_axes, labels.items(), strict=False):
        figures.style(axes, theme)
        axes.axvline(0, color=theme.muted, linewidth=1.2)
        for each in found:
            if each.key == key:
                _draw_difference(axes, each, pairs.index(comparison_text.name_pair(each)), theme)
        axes.set_title(figures.in_font(label), loc="left", color=theme.text, fontsize=11)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    for axes in all_axes[len(labels) :]:
        axes.set_axis_off()
    all_axes[0].set_yticks(range(len(pairs)), map(figures.in_font, pairs))
    all_axes[0].set_ylim(len(pairs) - 0.5, -0.5)  # The first pair is on top, as in the table.
    return figure


def _draw_difference(
    axes: mpl_axes.Axes, each: comparison.Difference, place: int, theme: figures.Theme
) -> None:
    is_beyond = each.verdict == comparison.BEYOND
    colour = theme.first if is_beyond else theme.muted
    axes.plot(each.interval, [place, place], color=colour, linewidth=2)
    fill = colour if is_beyond else theme.background
    axes.plot([each.value], [place], "o", color=colour, markerfacecolor=fill)


def output_panels(shown: outputs.Outputs) -> mpl_figure.Figure:
    """Draws a row per image: input, annotation, and the raw output of every run."""
    theme = figures.DARK  # X-rays are read on dark screens.
    titles = ["input", "annotation", *(f"output: {label}" for label in shown.labels)]
    num_rows = len(shown.images)
    figure = figures.new_figure(
        SIDE * len(titles) + 2 * MARGIN, (SIDE + 0.06) * num_rows + 0.35, theme, "constrained"
    )
    all_axes = figure.subplots(num_rows, len(titles), squeeze=False)
    for row, axes_row in enumerate(all_axes):
        images = [shown.images[row] / 255, shown.targets[row] / 255, *shown.probs[:, row]]
        for axes, image in zip(axes_row, images, strict=True):
            _draw_image(axes, image)
        label = f"no. {shown.numbers[row]}"
        axes_row[0].set_ylabel(label, color=theme.text, fontsize=10)
    for axes, title in zip(all_axes[0], titles, strict=True):
        axes.set_title(figures.in_font(title), color=theme.text, fontsize=10, parse_math=False)
    return figure


def _draw_image(axes: mpl_axes.Axes, image: np.ndarray) -> None:
    """Draws an [S, S] image in [0, 1], black to white."""
    axes.imshow(image, "gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
