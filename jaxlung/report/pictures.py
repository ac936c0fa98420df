"""Figures as they stand in a page, light and dark, and as files in `figures/`."""

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
MOST_RATES = 4  # named in words


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure for light and dark pages.

    Attributes:
        light: PNG, base64.
        dark: PNG, base64; equal to `light` for a figure that suits both.
        alt: what is seen, in words.
        num_rows: of images in it; in print many are not squeezed onto one page.
    """

    light: str
    dark: str
    alt: str
    num_rows: int = 1


def draw_curves(
    workdir: epath.Path, metrics: Mapping[str, np.ndarray], loss_name: str, task: str
) -> Picture:
    """Curves of training, also in `figures/training.png`."""
    losses, epochs = metrics["val_loss"], metrics["epoch"]
    alt = f"Training and validation loss over {len(epochs)} epochs."
    if np.isfinite(losses).any():
        best = np.nanargmin(losses)
        alt += f" The lowest validation loss is {losses[best]:.4f}, after epoch {epochs[best]:g}."
    score = run_files.find_epoch_score(metrics)
    if score and np.isfinite(metrics[f"val_{score}"]).any():
        label, best = glossary.find_term(score, task).label, np.nanmax(metrics[f"val_{score}"])
        alt += f" {label} of training and validation; highest of validation {best:.4f}."
    if changes := curves.find_rate_changes(metrics):
        rates = [f"{rate:.2g} from epoch {epoch:g}" for epoch, rate in changes[:MOST_RATES]]
        more = ", and more" if len(changes) > MOST_RATES else ""
        alt += f" The learning rate became {', '.join(rates)}{more}."
    make_figure = functools.partial(curves.training_curves, metrics, loss_name, task)
    return _draw_both(workdir / "figures/training.png", alt, make_figure)


def draw_thresholds(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """Overlap by threshold, also in `figures/thresholds_<split>.png`; None without."""
    if not summary.thresholds:
        return None
    alt = thresholds.describe_overlap(summary)
    path = workdir / f"figures/thresholds_{summary.split}.png"
    return _draw_both(path, alt, functools.partial(thresholds.overlap_curves, summary))


def draw_roc(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """ROC curve, also in `figures/roc_<split>.png`; None without."""
    if not summary.roc:
        return None
    alt = f"ROC curve of the {summary.split} split, {thresholds.title_of(summary.roc)}."
    point = thresholds.operating_point(summary.confusion)
    if point is not None:
        alt += f" At the chosen threshold FPR is {point[0]:.3f} and TPR {point[1]:.3f}."
    alt += " Beside it both rates against the threshold."
    path = workdir / f"figures/roc_{summary.split}.png"
    return _draw_both(path, alt, functools.partial(thresholds.roc_curves, summary))


def draw_calibration(workdir: epath.Path, summary: run_files.Summary) -> Picture | None:
    """Reliability diagram, also in `figures/calibration_<split>.png`; None without."""
    if not summary.calibration:
        return None
    path = workdir / f"figures/calibration_{summary.split}.png"
    make_figure = functools.partial(reliability.diagram, summary)
    return _draw_both(path, reliability.describe(summary), make_figure)


def draw_spread(workdir: epath.Path, split: str) -> Picture | None:
    """Histograms of a score, also in `figures/scores_<split>.png`; None without scores."""
    scores = run_files.load_image_scores(workdir, split, SPREAD_SCORES)
    if scores is None or not np.isfinite(scores.values).any():
        return None
    label = glossary.find_term(scores.name, ()).label
    parts = figures.split_by_group(scores).items()
    medians = ", ".join(
        f"{name} {np.median(values):.3f} ({values.min():.3f} to {values.max():.3f})"
        for name, values in parts
    )
    alt = f"Histograms of {label} per image of the {split} split; medians and ranges: {medians}."
    path = workdir / f"figures/scores_{split}.png"
    return _draw_both(path, alt, functools.partial(figures.score_histogram, scores))


def draw_panels(workdir: epath.Path, *, is_binary: bool) -> Picture | None:
    """Images with their outputs and annotations, also in `figures/panels.png`; None without."""
    panels = run_files.load_panels(workdir)
    if panels is None:
        return None
    rows = "; ".join(panels_lib.describe_panel(panels, row) for row in range(len(panels.image)))
    last = "differences in colour" if is_binary else "outlines"
    alt = f"Input, raw output, post-processed output, annotation and {last} of {rows}."
    png = figures.to_png(panels_lib.image_panels(panels, is_binary=is_binary))
    _save(workdir / "figures/panels.png", png)
    return Picture(_encode(png), _encode(png), alt, len(panels.image))


def draw_seen(workdir: epath.Path) -> Picture | None:
    """Images beside what the network sees of them, also in `figures/seen.png`; None without."""
    found = seen.load(workdir)
    if found is None:
        return None
    png = figures.to_png(seen.draw(found))
    _save(workdir / "figures/seen.png", png)
    return Picture(_encode(png), _encode(png), seen.describe(found), len(found.image))


def draw_planes(workdir: epath.Path, subjects: Sequence[volume_files.Subject]) -> Picture | None:
    """Slices of the first test volumes, also in `figures/planes.png`; None without."""
    shown = subjects[: planes_lib.MOST_SUBJECTS]
    if not shown:
        return None
    rows = "; ".join(planes_lib.describe_subject(subject) for subject in shown)
    alt = f"Axial, coronal and sagittal slices with outlines of prediction and annotation: {rows}."
    png = figures.to_png(planes_lib.subject_planes(shown))
    _save(workdir / "figures/planes.png", png)
    return Picture(_encode(png), _encode(png), alt, len(shown))


def draw_amounts(workdir: epath.Path, target: str) -> Picture | None:
    """Predicted against annotated volume, also in `figures/volumes.png`; None without."""
    amounts = volume_files.load_amounts(workdir)
    if not amounts:
        return None
    counts = ", ".join(f"{len(each.predicted)} {split}" for split, each in amounts.items())
    means = ", ".join(
        f"{split} {each.predicted.mean():.1f} predicted and {each.annotated.mean():.1f} annotated"
        for split, each in amounts.items()
    )
    alt = f"Predicted against annotated volume of {target} in mL, a point per volume: {counts}."
    alt += f" Means: {means}."
    path = workdir / "figures/volumes.png"
    return _draw_both(path, alt, functools.partial(amounts_lib.scatter, amounts, target))


def _draw_both(
    path: epath.Path, alt: str, make_figure: Callable[..., mpl_figure.Figure]
) -> Picture:
    light = figures.to_png(make_figure(theme=figures.LIGHT))
    dark = figures.to_png(make_figure(theme=figures.DARK))
    _save(path, light)
    return Picture(_encode(light), _encode(dark), alt)


def _save(path: epath.Path, png: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    files.write_bytes(path, png)


def _encode(png: bytes) -> str:
    return base64.b64encode(png).decode()
