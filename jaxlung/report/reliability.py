"""The reliability diagram: the share of foreground against the predicted probability."""

import math
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import ticker

from jaxlung.config import run_files
from jaxlung.report import figures, glossary


def diagram(summary: run_files.Summary, theme: figures.Theme = figures.LIGHT) -> mpl_figure.Figure:
    """Draws share of foreground against mean probability by bin, and the size of the bins below.

    Args:
        summary: Scores of a split, with `calibration`; its `calibration_before`, if there is one,
            is a line of its own.
        theme: Colours of the page.
    """
    counts, probs, shares = columns(summary.calibration)
    counted = glossary.counted(summary.task)
    figure = figures.new_figure(10.6, 6.2, theme, "constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for axes in (upper, lower):
        figures.style(axes, theme)
    upper.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.8, linestyle="--", label="calibrated")
    if summary.calibration_before:
        _, *points = columns(summary.calibration_before)
        upper.plot(*points, "o:", color=theme.muted, label="without temperature", markersize=4)
    upper.vlines(probs, probs, shares, color=theme.second, linewidth=2.5, label="gap")
    upper.plot(probs, shares, "o-", color=theme.first, label="network")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    title = "\n".join(spell_errors(summary.calibration))  # Short lines fit on a phone.
    if summary.calibration_before:
        title += "\n" + "\n".join(
            f"without temperature: {x}" for x in spell_errors(summary.calibration_before)
        )
    upper.set_title(title, loc="left", color=theme.text, fontsize=11)
    target = figures.in_font(summary.levels[-1])
    upper.set_ylabel(f"share annotated as {target}", color=theme.muted, parse_math=False)
    upper.legend(frameon=False, labelcolor=theme.text, loc="upper left")
    edges = np.linspace(0, 1, len(counts) + 1)
    lower.bar(edges[:-1], counts, np.diff(edges), 0, align="edge", color=theme.first, alpha=0.85)
    lower.set_yscale("log")
    lower.set_ylim(0.5, 3 * counts.max())  # An axis from 1 would give a bin with count 1 no height.
    lower.yaxis.set_major_locator(ticker.LogLocator(numticks=4))
    lower.yaxis.set_minor_locator(ticker.NullLocator())
    lower.set_ylabel(f"{counted} (log)", color=theme.muted)
    lower.set_xlabel(f"predicted probability of {target}", color=theme.muted, parse_math=False)
    return figure


def columns(calibration: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns count, mean probability and share of foreground by bin; NaN for empty bins."""
    counts, probs, shares = (
        np.array([math.nan if x is None else x for x in calibration[name]], np.float64)
        for name in ("counts", "mean_prob", "fraction")
    )
    return counts, probs, shares


def title_of(calibration: dict[str, Any]) -> str:
    """Returns "ECE 0.0123 (95 % interval 0.010\N{EN DASH}0.015), ACE 0.1012 (...)"."""
    return ", ".join(spell_errors(calibration))


def spell_errors(calibration: dict[str, Any]) -> list[str]:
    """Returns ECE and ACE: "ECE 0.0123 (95 % interval 0.010\N{EN DASH}0.015)"."""
    texts = []
    for name in ("ece", "ace"):
        interval = glossary.format_interval(name, calibration[f"{name}_interval"])
        text = f"{name.upper()} {glossary.format_score(name, calibration[name])}"
        texts.append(f"{text} (95 % interval {interval})" if interval else text)
    return texts


def describe(summary: run_files.Summary) -> str:
    """Returns the diagram in words and numbers, as its alternative text."""
    counts, probs, shares = columns(summary.calibration)
    pairs = ", ".join(
        f"{prob:.2f} and {share:.2f}"
        for count, prob, share in zip(counts, probs, shares, strict=True)
        if count
    )
    first, last = (f"{100 * counts[i] / counts.sum():.0f} %" for i in (0, -1))
    before = summary.calibration_before
    without = f" Without the temperature: {title_of(before)}." if before else ""
    return (
        f"Reliability diagram of the {summary.split} split, {title_of(summary.calibration)}."
        f"{without}"
        f" Mean probability and share of {summary.levels[-1]} in each filled bin: {pairs}."
        f" The first of the {len(counts)} bins contains {first} of the"
        f" {glossary.counted(summary.task)}, the last {last}."
    )
