"""Effect of the threshold: overlap of masks by threshold, and the ROC curve of a diagnosis."""

import math
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.report import figures, glossary

Point = tuple[float, float]


def overlap_curves(
    summary: run_files.Summary, theme: figures.Theme = figures.LIGHT
) -> mpl_figure.Figure:
    """Draws Dice and IoU against the threshold, with a mark at the chosen threshold.

    Args:
        summary: Scores of a split, with `thresholds`.
        theme: Colours of the page.
    """
    curves = {name: _array(values) for name, values in summary.thresholds.items()}
    figure = figures.new_figure(10.6, 3.5, theme, "constrained")
    axes = figure.subplots()
    figures.style(axes, theme)
    for name, color in (("dice", theme.first), ("iou", theme.second)):
        label = glossary.find_term(name).label
        axes.plot(curves["thresholds"], curves[name], color=color, label=label)
        if summary.threshold is not None:
            height = np.interp(summary.threshold, curves["thresholds"], curves[name])
            axes.plot(summary.threshold, height, "o", color=color)
    _mark_threshold(axes, summary.threshold, theme)
    axes.set_xlabel("threshold", color=theme.muted)
    number = glossary.count(summary.num_images, "image", summary.task)
    axes.set_ylabel(f"mean over {number}", color=theme.muted)
    axes.legend(frameon=False, labelcolor=theme.text, loc="best")
    return figure


def describe_overlap(summary: run_files.Summary) -> str:
    """Returns `overlap_curves` in words and numbers, as its alternative text."""
    curves = {name: _array(values) for name, values in summary.thresholds.items()}
    steps = curves["thresholds"]
    text = f"Dice and IoU of the {summary.split} split against {len(steps)} thresholds."
    for name in ("dice", "iou"):
        if np.isfinite(curves[name]).any():
            label, best = glossary.find_term(name).label, np.nanargmax(curves[name])
            text += f" {label} is highest at {steps[best]:.4g}: {curves[name][best]:.4f}."
    if summary.threshold is not None:
        text += f" A line marks the threshold, {summary.threshold:.4g}."
    return text


def roc_curves(
    summary: run_files.Summary, theme: figures.Theme = figures.LIGHT
) -> mpl_figure.Figure:
    """Draws the ROC curve with the chosen point, and both rates against the threshold.

    Args:
        summary: Scores of a split, with `roc` and `confusion`.
        theme: Colours of the page.
    """
    fpr, tpr, thresholds = (_array(summary.roc[name]) for name in ("fpr", "tpr", "thresholds"))
    figure = figures.new_figure(10.6, 4.9, theme, "constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        figures.style(axes, theme)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    left.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.8, linestyle="--", label="chance")
    left.plot(fpr, tpr, color=theme.first, label="network")
    point = operating_point(summary.confusion)
    if point is not None:
        label = f"chosen: FPR {point[0]:.3f}, TPR {point[1]:.3f}"
        left.plot(*point, "o", color=theme.second, markersize=8, label=label)
    left.set_title(title_of(summary.roc), loc="left", color=theme.text, fontsize=11)
    left.set_xlabel("FPR = FP / (FP + TN)", color=theme.muted)
    left.set_ylabel("TPR = TP / (TP + FN)", color=theme.muted)
    left.legend(frameon=False, labelcolor=theme.text, loc="lower right")
    # The first threshold is infinity, stored as None; 1 has the same effect on probabilities.
    falling = np.append(np.nan_to_num(thresholds, nan=1.0), 0.0)
    for name, rates, color in (("TPR", tpr, theme.first), ("FPR", fpr, theme.second)):
        right.step(falling, np.append(rates, rates[-1]), where="post", color=color, label=name)
    _mark_threshold(right, summary.threshold, theme)
    right.set_title("Both rates by threshold", loc="left", color=theme.text, fontsize=11)
    right.set_xlabel("threshold", color=theme.muted)
    right.legend(frameon=False, labelcolor=theme.text, loc="best")
    return figure


def operating_point(confusion: list[list[int]]) -> Point | None:
    """Returns (FPR, TPR) of a 2 x 2 confusion matrix of images.

    Returns None for a matrix of another size, or if a class has no images.
    """
    if len(confusion) != 2 or not all(map(sum, confusion)):
        return None
    (true_negatives, false_positives), (false_negatives, true_positives) = confusion
    return (
        false_positives / (false_positives + true_negatives),
        true_positives / (true_positives + false_negatives),
    )


def title_of(roc: dict[str, Any]) -> str:
    """Returns "AUC 0.9850 (95 % interval 0.976\N{EN DASH}0.992)", the interval if it is known."""
    interval = glossary.format_interval("auc", roc["auc_interval"])
    title = f"AUC {glossary.format_score('auc', roc['auc'])}"
    return f"{title} (95 % interval {interval})" if interval else title


def _mark_threshold(axes: mpl_axes.Axes, threshold: float | None, theme: figures.Theme) -> None:
    if threshold is None:
        return
    axes.axvline(threshold, color=theme.muted, linewidth=1, linestyle=":")
    axes.annotate(
        f"chosen: {threshold:.4g}",
        (threshold, 0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4, 6) if threshold < 0.7 else (-4, 6),
        textcoords="offset points",
        horizontalalignment="left" if threshold < 0.7 else "right",
        color=theme.muted,
        fontsize=9,
    )


def _array(values: list[float | None]) -> np.ndarray:
    """Returns [T] float64 with NaN for None, as JSON has no NaN and no infinity."""
    return np.array([math.nan if value is None else value for value in values], np.float64)
