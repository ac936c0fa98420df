"""Three slices of each test volume, with outlines of prediction and annotation."""

from collections.abc import Sequence

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure

from jaxlung.report import figures, panels, volume_files

MOST_SUBJECTS = 24  # rows of a figure
SIDE, GAP = 3.45, 0.08  # In inches. No slice is wider or higher than SIDE.
TOP, ROW_LABEL, BOTTOM, MARGIN = 0.1, 0.36, 0.4, 0.15


def subject_planes(
    subjects: Sequence[volume_files.Subject], theme: figures.Theme = figures.DARK
) -> mpl_figure.Figure:
    """Draws a row per volume: an axial, a coronal and a sagittal slice, at the same scale in mm.

    Args:
        subjects: One or more volumes.
        theme: Colours; dark by default, as CTs are read on dark screens.
    """
    sizes = [find_sizes(subject) for subject in subjects]
    heights = [ROW_LABEL + max(height for _, height in each.values()) for each in sizes]
    width = 2 * MARGIN + 3 * (SIDE + GAP) - GAP
    height = TOP + sum(heights) + BOTTOM
    figure = figures.new_figure(width, height, theme)
    # One axes object in inches, as for panels.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    top = height - TOP
    for subject, size, row_height in zip(subjects, sizes, heights, strict=True):
        label = figures.in_font(describe_subject(subject))
        axes.text(MARGIN, top - ROW_LABEL + 0.08, label, color=theme.text, parse_math=False)
        _draw_row(axes, subject, size, top - ROW_LABEL)
        top -= row_height
    panels.add_legend(axes, panels.explain_outlines(), theme)
    return figure


def describe_subject(subject: volume_files.Subject) -> str:
    """Returns the label of a row, with slices counted from 0.

    An example is "case_3, Dice 0.812; slices: axial 41, coronal 230, sagittal 120".
    """
    slices = ", ".join(f"{name} {plane.index}" for name, plane in subject.planes.items())
    return f"{panels.shorten(subject.image_id)}, Dice {subject.dice:.3f}; slices: {slices}"


def find_sizes(subject: volume_files.Subject) -> dict[str, tuple[float, float]]:
    """Returns (width, height) of each plane in inches, with the same mm per inch in all."""
    # Size of a column in units of a voxel's width; the columns of a sagittal slice are rows.
    units = {"axial": 1.0, "coronal": 1.0, "sagittal": subject.planes["axial"].aspect}
    sizes = {}
    for name, plane in subject.planes.items():
        num_rows, num_columns = plane.image.shape
        sizes[name] = (num_columns * units[name], num_rows * plane.aspect * units[name])
    scale = SIDE / max(length for size in sizes.values() for length in size)
    return {name: (width * scale, height * scale) for name, (width, height) in sizes.items()}


def _draw_row(
    axes: mpl_axes.Axes,
    subject: volume_files.Subject,
    sizes: dict[str, tuple[float, float]],
    top: float,
) -> None:
    left = MARGIN
    for name, plane in subject.planes.items():
        width, height = sizes[name]
        box = (left, left + width, top - height, top)
        axes.imshow(plane.image, "gray", vmin=0, vmax=255, extent=box, aspect="auto")
        for mask, color, linewidth in (
            (plane.target, panels.ANNOTATION_COLOR, 2.4),
            (plane.pred, panels.PREDICTION_COLOR, 1.1),
        ):
            panels.draw_outlines(axes, mask * 255, box, color, linewidth)
        left += width + GAP
