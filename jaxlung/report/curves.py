"""Training curves: losses and a score by epoch, with the changes of the learning rate."""

from collections.abc import Mapping

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.config import run_files
from jaxlung.report import figures, glossary

MOST_RATE_MARKS = 12  # With more changes, as in a smooth schedule, marks would hide the curves.


def training_curves(
    metrics: Mapping[str, np.ndarray],
    loss_name: str = "",
    task: str = "",
    theme: figures.Theme = figures.LIGHT,
) -> mpl_figure.Figure:
    """Draws training and validation loss by epoch, and a score if there is one.

    If the loss has a floor above 0, the loss above its floor is drawn too.

    Args:
        metrics: Columns `run_files.METRICS`, [E] each; "<score>" and "val_<score>" if there is one.
        loss_name: Loss function in words, for the title.
        task: Name of the task.
        theme: Colours of the page.
    """
    plots = {"loss": f"Loss: {loss_name}" if loss_name else "Loss"}
    if not np.allclose(metrics["loss"], metrics["loss_excess"], equal_nan=True):
        plots["loss_excess"] = "Loss above its floor"
    if score := run_files.find_epoch_score(metrics):
        plots[score] = glossary.find_term(score, task).label
    figure = figures.new_figure(10.6, 3.5, theme, "constrained")
    all_axes = figure.subplots(1, len(plots), squeeze=False)[0]
    for axes, (name, title) in zip(all_axes, plots.items(), strict=True):
        figures.style(axes, theme)
        _plot_pair(axes, metrics, name, theme)
        if name in run_files.LOSSES:
            _scale_loss(axes, np.concatenate([metrics[name], metrics[f"val_{name}"]]))
        # Scores rise, which leaves room for words below them.
        _mark_rates(axes, metrics, name not in run_files.LOSSES, theme)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        title = figures.in_font(title)
        axes.set_title(title, loc="left", color=theme.text, fontsize=11, parse_math=False)
        axes.set_xlabel("epoch", color=theme.muted)
    all_axes[0].legend(frameon=False, labelcolor=theme.text)
    return figure


def find_rate_changes(metrics: Mapping[str, np.ndarray]) -> list[tuple[float, float]]:
    """Returns (first epoch, learning rate) for each change of the rate."""
    rates, epochs = metrics["learning_rate"], metrics["epoch"]
    changed = np.flatnonzero(np.diff(rates)) + 1  # NaN differs from itself; it is dropped below.
    return [(float(epochs[i]), float(rates[i])) for i in changed if np.isfinite(rates[i])]


def _plot_pair(
    axes: mpl_axes.Axes, metrics: Mapping[str, np.ndarray], name: str, theme: figures.Theme
) -> None:
    marker = "o" if len(metrics["epoch"]) <= 15 else ""
    for key, label, color in (
        (name, "training", theme.first),
        (f"val_{name}", "validation", theme.second),
    ):
        axes.plot(
            metrics["epoch"], metrics[key], color=color, label=label, marker=marker, markersize=3.5
        )


def _scale_loss(axes: mpl_axes.Axes, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > 5 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())


def _mark_rates(
    axes: mpl_axes.Axes, metrics: Mapping[str, np.ndarray], with_words: bool, theme: figures.Theme
) -> None:
    """Draws a thin line before the first epoch of each new rate, labelled with the rate."""
    changes = find_rate_changes(metrics)
    if len(changes) > MOST_RATE_MARKS:
        return
    for epoch, rate in changes:
        axes.axvline(epoch - 0.5, color=theme.muted, linewidth=0.7, linestyle=":")
        axes.annotate(
            f"rate {rate:.2g}" if with_words else "",
            (epoch - 0.5, 0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2, 4),
            textcoords="offset points",
            rotation="vertical",
            color=theme.muted,
            fontsize=7.5,
        )
