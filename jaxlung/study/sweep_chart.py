"""The figure of a sweep: the score of every run against each field."""

from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.report import figures
from jaxlung.study import importance, sweep, sweep_results

LOG_RATIO = 20  # Positive numbers that differ by more have a logarithmic axis.


def field_chart(
    found: sweep_results.SweepResults, label: str, theme: figures.Theme = figures.LIGHT
) -> mpl_figure.Figure:
    """Draws a small chart per field, the one that mattered most first, at the first comparison.

    Runs that were stopped are hollow circles, failed runs crosses at the bottom. The best run has
    the second colour.

    Args:
        found: Results of the sweep.
        label: Name of the score, with the epoch of the comparison.
        theme: Colours of the page.
    """
    names = sweep.short_names(found.outcomes[0].values)
    across = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    down = -(-len(names) // across)
    figure = figures.new_figure(10.6, 2.9 * down, theme, "constrained")
    all_axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes, effect in zip(all_axes, found.effects, strict=False):
        figures.style(axes, theme)
        _draw(axes, found, effect.field, theme)
        axes.set_xlabel(figures.in_font(names[effect.field]), color=theme.text, fontsize=11)
    for axes in all_axes[len(names) :]:
        axes.set_axis_off()
    all_axes[0].set_ylabel(figures.in_font(label), color=theme.muted)
    return figure


def _draw(
    axes: mpl_axes.Axes, found: sweep_results.SweepResults, field: str, theme: figures.Theme
) -> None:
    places = _place(axes, [outcome.values[field] for outcome in found.outcomes])
    for place, outcome in zip(places, found.outcomes, strict=True):
        colour = theme.second if outcome.state == "best" else theme.first
        fill = theme.background if outcome.state == "stopped" else colour
        if outcome.first_score is None:
            axes.plot(place, 0.03, "x", color=theme.muted, transform=axes.get_xaxis_transform())
        else:
            axes.plot(place, outcome.first_score, "o", color=colour, markerfacecolor=fill)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))


def _place(axes: mpl_axes.Axes, values: list[Any]) -> list[float]:
    """Returns the place of each value on the axis, which it sets up."""
    groups = importance.split(values)
    if max(map(len, groups)) == 1:  # One place for each value.
        axes.set_xticks(
            range(len(groups)), [figures.in_font(sweep.spell_value(x)) for (x,) in groups]
        )
        axes.set_xlim(-0.5, len(groups) - 0.5)
        return [float(groups.index([value])) for value in values]
    if min(values) > 0 and max(values) > LOG_RATIO * min(values):
        axes.set_xscale("log")
        axes.tick_params(which="minor", length=0)
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    return values
