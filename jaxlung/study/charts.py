"""A study's figures: scores side by side, and images beside each run's output."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.report import figures, glossary
from jaxlung.study import outputs, results
from jaxlung.study import study as study_lib

SIDE, MARGIN = 2.1, 0.15  # inches
THEME = figures.LIGHT


def score_chart(study: study_lib.Study, shown: Sequence[results.Result]) -> mpl_figure.Figure:
    """A small chart per score: a point and its 95 % interval per run, the paper's as diamonds."""
    across = {1: 1, 2: 2, 4: 2}.get(len(study.columns), 3)
    down = -(-len(study.columns) // across)
    papers = [paper for paper in study.paper if paper.in_chart]
    num_rows = len(shown) + len(papers)
    figure = figures.new_figure(10.6, down * (0.9 + 0.34 * num_rows), THEME, "constrained")
    all_axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, key in zip(all_axes, study.columns, strict=False):
        _draw_score(axes, key, shown, papers)
    for axes in all_axes[len(study.columns) :]:
        axes.set_axis_off()
    labels = [result.run.label for result in shown] + [f"paper: {p.label}" for p in papers]
    all_axes[0].set_yticks(range(num_rows), [figures.in_font(label) for label in labels])
    all_axes[0].set_ylim(num_rows - 0.5, -0.5)  # First run on top, as in the table.
    return figure


def _draw_score(
    axes: mpl_axes.Axes,
    key: str,
    shown: Sequence[results.Result],
    papers: Sequence[study_lib.PaperRow],
) -> None:
    figures.style(axes, THEME)
    for row, result in enumerate(shown):
        value = result.summary.scores.get(key)
        low, high = (math.nan if x is None else x for x in _interval(result, key))
        axes.plot([low, high], [row, row], color=THEME.first, linewidth=2)
        axes.plot([math.nan if value is None else value], [row], "o", color=THEME.first)
    for row, paper in enumerate(papers, len(shown)):
        axes.plot([paper.scores.get(key, math.nan)], [row], "D", color=THEME.second)
    summary = shown[0].summary
    title = glossary.find_term(key, summary.task, summary.levels).label
    axes.set_title(figures.in_font(title), loc="left", color=THEME.text, fontsize=11)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))


def _interval(result: results.Result, key: str) -> Sequence[float | None]:
    return result.summary.intervals.get(key, (None, None))


def output_panels(shown: outputs.Outputs) -> mpl_figure.Figure:
    """A row per image: input, annotation, and the raw output of every run."""
    theme = figures.DARK  # As X-rays are read.
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
    """One [S, S] image in [0, 1], black to white."""
    axes.imshow(image, "gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
