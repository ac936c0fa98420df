"""Figures as PNG files in `figures/`, and encoded for light and dark pages."""

import base64
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath
from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.host import files
from jaxlung.report import amounts as amounts_lib
from jaxlung.report import curves, figures, glossary, reliability, seen, thresholds, volume_files
from jaxlung.report import panels as panels_lib
from jaxlung.report import planes as planes_lib

SPREAD_SCORES = ("f1_macro", "dice")  # The first of them that a split has is plotted.
MOST_RATES = 4  # learning rates listed in the alternative text


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure for light and dark pages.

    Attributes:
        light: PNG in base64.
        dark: PNG in base64; equal to `light` for a figure that suits both.
        alt: Alternative text.
        num_rows: Rows of images; a figure with many may take more than one page in print.
    """

    light: str
    dark: str
    alt: str
    num_rows: int = 1


def draw_curves(
    workdir: epath.Path, metrics: Mapping[str, np.ndarray], loss_name: str, task: str
) -> Picture:
    """Draws the training curves, also into `figures/training.png`."""
    losses, epochs = metrics["val_loss"], metrics["epoch"]
    alt = f"Training and validation loss over {len(epochs)} epochs."
    if np.isfinite(losses).any():
        best = np.nanargmin(losses)
        alt += f" The lowest validation loss is {losses[best]:.4f}, after epoch {epochs[best]:g}."
    score = run_files.find_epoch_score(metrics)
    if score and np.isfinite(metrics[f"val_{score}"]).any():
        label, highest = glossary.find_term(score, task).label, np.nanmax(metrics[f"val_{score}"])
        alt += f" {label} of training and validation; the highest on validation is {highest:.4f}."
    if changes := curves.find_rate_changes(metrics):
        rates = [f"{rate:.2g} from epoch {epoch:g}" for epoch, rate in changes[:MOST_RATES]]
        more = ", and more" if len(changes) > MOST_RATES else ""
        alt += f" The learning rate became {', '.join(rates)}{more}."
    make_figure = functools.partial(curves.training_curves, metrics, loss_name, task)
    return draw_both(workdir / "figures/training.png", alt, make_figure)


def draw_thresholds(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """Draws overlap by threshold, also into `figures/thresholds_<split>.png`."""
    if not summary.thresholds:
        return None
    alt = thresholds.describe_overlap(summary)
    path = workdir / f"figures/thresholds_{summary.split}.png"
    return draw_both(path, alt, functools.partial(thresholds.overlap_curves, summary))


def draw_roc(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """Draws the ROC curve, also into `figures/roc_<split>.png`."""
    if not summary.roc:
        return None
    alt = f"ROC curve of the {summary.split} split, {thresholds.title_of(summary.roc)}."
    point = thresholds.operating_point(summary.confusion)
    if point is not None:
        alt += f" At the chosen threshold, FPR is {point[0]:.3f} and TPR is {point[1]:.3f}."
    alt += " Beside it, both rates against the threshold."
    path = workdir / f"figures/roc_{summary.split}.png"
    return draw_both(path, alt, functools.partial(thresholds.roc_curves, summary))


def draw_calibration(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """Draws the reliability diagram, also into `figures/calibration_<split>.png`."""
    if not summary.calibration:
        return None
    path = workdir / f"figures/calibration_{summary.split}.png"
    make_figure = functools.partial(reliability.diagram, summary)
    return draw_both(path, reliability.describe(summary), make_figure)


def draw_spread(workdir: epath.Path, split: str) -> Picture | None:
    """Draws histograms of the images' scores, also into `figures/scores_<split>.png`."""
    scores = run_files.load_image_scores(workdir, split, SPREAD_SCORES)
    if scores is None or not np.isfinite(scores.values).any():
        return None
    label = glossary.find_term(scores.name).label
    parts = figures.split_by_group(scores).items()
    medians = ", ".join(
        f"{name} {np.median(values):.3f} ({values.min():.3f} to {values.max():.3f})"
        for name, values in parts
    )
    alt = f"Histograms of {label} per image of the {split} split; medians and ranges: {medians}."
    path = workdir / f"figures/scores_{split}.png"
    return draw_both(path, alt, functools.partial(figures.score_histogram, scores))


def draw_panels(workdir: epath.Path, *, is_binary: bool) -> Picture | None:
    """Draws images with their outputs and annotations, also into `figures/panels.png`."""
    panels = run_files.load_panels(workdir)
    if panels is None:
        return None
    rows = "; ".join(panels_lib.describe_panel(panels, row) for row in range(len(panels.image)))
    last = "differences in colour" if is_binary else "outlines"
    alt = f"Input, raw output, post-processed output, annotation and {last} of {rows}."
    figure = panels_lib.image_panels(panels, is_binary=is_binary)
    return draw_one(workdir / "figures/panels.png", alt, figure, len(panels.image))


def draw_seen(workdir: epath.Path) -> Picture | None:
    """Draws images beside the network's view of them, also into `figures/seen.png`."""
    found = seen.load(workdir)
    if found is None:
        return None
    path, alt = workdir / "figures/seen.png", seen.describe(found)
    return draw_one(path, alt, seen.draw(found), len(found.image))


def draw_planes(workdir: epath.Path, subjects: Sequence[volume_files.Subject]) -> Picture | None:
    """Draws slices of the first test volumes, also into `figures/planes.png`."""
    shown = subjects[: planes_lib.MOST_SUBJECTS]
    if not shown:
        return None
    rows = "; ".join(planes_lib.describe_subject(subject) for subject in shown)
    alt = f"Axial, coronal and sagittal slices with outlines of prediction and annotation: {rows}."
    path = workdir / "figures/planes.png"
    return draw_one(path, alt, planes_lib.subject_planes(shown), len(shown))


def draw_amounts(workdir: epath.Path, target: str) -> Picture | None:
    """Draws predicted against annotated volume, also into `figures/volumes.png`."""
    amounts = volume_files.load_amounts(workdir)
    if not amounts:
        return None
    counts = ", ".join(f"{len(each.predicted)} {split}" for split, each in amounts.items())
    means = ", ".join(
        f"{split} {each.predicted.mean():.1f} predicted and {each.annotated.mean():.1f} annotated"
        for split, each in amounts.items()
    )
    alt = f"Predicted against annotated volume of {target} in mL, one point per volume: {counts}."
    alt += f" Means: {means}."
    path = workdir / "figures/volumes.png"
    return draw_both(path, alt, functools.partial(amounts_lib.scatter, amounts, target))


def draw_both(path: epath.Path, alt: str, make_figure: Callable[..., mpl_figure.Figure]) -> Picture:
    """Returns a figure in both themes, and writes the light one to a file.

    Args:
        path: The PNG file.
        alt: Alternative text.
        make_figure: Draws the figure in the theme of its argument `theme`.
    """
    light = figures.to_png(make_figure(theme=figures.LIGHT))
    dark = figures.to_png(make_figure(theme=figures.DARK))
    _save(path, light)
    return Picture(_encode(light), _encode(dark), alt)


def draw_one(path: epath.Path, alt: str, figure: mpl_figure.Figure, num_rows: int = 1) -> Picture:
    """Returns a figure that suits light and dark pages, and writes it to a file."""
    png = figures.to_png(figure)
    _save(path, png)
    return Picture(_encode(png), _encode(png), alt, num_rows)


def _save(path: epath.Path, png: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    files.write_bytes(path, png)


def _encode(png: bytes) -> str:
    return base64.b64encode(png).decode()
