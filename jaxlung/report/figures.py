"""Colours and style of all figures, and histograms of scores."""

import dataclasses
import io
from typing import Literal

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.config import run_files
from jaxlung.report import glossary

DOTS_PER_INCH = 144
NUM_BINS = 40
MOST_GROUPS = 8  # With more, all images share one histogram, as nobody would read that many.


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a figure on a light or a dark page."""

    background: str
    text: str
    muted: str
    grid: str
    first: str
    second: str


LIGHT = Theme("#ffffff", "#1d2530", "#5c6673", "#e3e7ec", "#2563c9", "#c2410c")
DARK = Theme("#171c24", "#e6eaf0", "#9aa5b3", "#2b333f", "#7aa8f7", "#f59e5b")


def new_figure(
    width: float, height: float, theme: Theme, layout: Literal["constrained"] | None = None
) -> mpl_figure.Figure:
    """Returns an empty figure, size in inches; it is in no global state and needs no closing."""
    return mpl_figure.Figure((width, height), facecolor=theme.background, layout=layout)


def to_png(figure: mpl_figure.Figure) -> bytes:
    """Returns the figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH)
    return content.getvalue()


def in_font(text: str) -> str:
    """Returns text on one line, with "?" for letters that the font may lack."""
    return text.encode("latin-1", "replace").decode("latin-1").replace("\n", " ")


def score_histogram(scores: run_files.ImageScores, theme: Theme = LIGHT) -> mpl_figure.Figure:
    """Draws a histogram of the images' scores per group, one below the other.

    Args:
        scores: Scores of one split, at least one of them finite.
        theme: Colours of the page.
    """
    parts = split_by_group(scores)
    lowest = min(values.min() for values in parts.values())
    bins = np.linspace(
        min(lowest, 0.99), max(1.0, *(v.max() for v in parts.values())), NUM_BINS + 1
    )
    figure = new_figure(10.6, 0.9 + 1.1 * len(parts), theme, "constrained")
    all_axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(all_axes, parts.items(), strict=True):
        style(axes, theme)
        axes.hist(values, bins, histtype="stepfilled", color=theme.first, alpha=0.85)
        median = float(np.median(values))
        axes.axvline(median, color=theme.second, linewidth=1.5)
        title = f"{name}: {values.size:,} images, median {median:.3f}"
        axes.set_title(in_font(title), loc="left", color=theme.text, fontsize=10, parse_math=False)
        axes.yaxis.set_major_locator(ticker.MaxNLocator(3, integer=True))
    label = f"{glossary.find_term(scores.name).label} of each image"
    all_axes[-1].set_xlabel(label, color=theme.muted)
    figure.supylabel("images", color=theme.muted, fontsize=10)
    return figure


def split_by_group(scores: run_files.ImageScores) -> dict[str, np.ndarray]:
    """Returns finite scores by group, largest first; one group "all" if there are none or many."""
    finite = np.isfinite(scores.values)
    groups = np.array(scores.groups)
    names, counts = np.unique(groups[finite], return_counts=True)
    if not 1 < len(names) <= MOST_GROUPS:
        return {"all": scores.values[finite]}
    largest_first = names[np.argsort(-counts, kind="stable")]
    return {
        glossary.name_group(name): scores.values[finite & (groups == name)]
        for name in largest_first
    }


def style(axes: mpl_axes.Axes, theme: Theme) -> None:
    """Gives axes a light grid and short ticks, without a box."""
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, length=0, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
