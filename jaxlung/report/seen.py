"""X-rays beside the network's view of them, which is cropped and may be limited to the lungs."""

import dataclasses

import numpy as np
from etils import epath
from matplotlib import figure as mpl_figure

from jaxlung.config import run_files
from jaxlung.report import figures, panels

SIDE = 4.4  # inches


@dataclasses.dataclass(frozen=True)
class Seen:
    """The content of `seen_test.npz`.

    Attributes:
        image: [K, S, S] uint8.
        seen: [K, H, W] float32 in [0, 1], the network's view.
        kind: [K] str, the class of each image.
        image_id: [K] str.
    """

    image: np.ndarray
    seen: np.ndarray
    kind: np.ndarray
    image_id: np.ndarray


def load(workdir: epath.Path) -> Seen | None:
    """Reads `seen_test.npz`; returns None without the file.

    Raises:
        ValueError: it can't be read, lacks an array, or its arrays don't fit.
    """
    path = workdir / "seen_test.npz"
    if not path.exists():
        return None
    found = run_files.load_bundle(path, Seen)
    arrays = dataclasses.astuple(found)
    counts = {len(array) if array.ndim else 0 for array in arrays}
    if len(counts) > 1 or 0 in counts or {found.image.ndim, found.seen.ndim} != {3}:
        raise ValueError(f"{path}: want as many images [K, S, S] as views of them [K, H, W].")
    return found


def draw(seen: Seen, theme: figures.Theme = figures.DARK) -> mpl_figure.Figure:
    """Draws a row per image: the image and the network's view, at the same pixel size."""
    num_rows, size = seen.image.shape[:2]
    figure = figures.new_figure(2 * SIDE, (SIDE + 0.3) * num_rows, theme, "constrained")
    all_axes = figure.subplots(num_rows, 2, squeeze=False)
    for row, (left, right) in enumerate(all_axes):
        left.imshow(seen.image[row], "gray", vmin=0, vmax=255)
        right.imshow(seen.seen[row], "gray", vmin=0, vmax=1)
        titles = (describe_image(seen, row), "what the network sees")
        for axes, title in zip((left, right), titles, strict=True):
            axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
            axes.set_axis_off()
            title = figures.in_font(title)
            axes.set_title(title, loc="left", color=theme.text, fontsize=10, parse_math=False)
    return figure


def describe_image(seen: Seen, row: int) -> str:
    """Returns the label of an image: "COVID-19: image_17, 256 x 256 pixels"."""
    height, width = seen.image.shape[1:]
    return f"{seen.kind[row]}: {panels.shorten(str(seen.image_id[row]))}, {height} x {width} pixels"


def describe(seen: Seen) -> str:
    """Returns the figure of `draw` in words, as its alternative text."""
    rows = "; ".join(describe_image(seen, row) for row in range(len(seen.image)))
    height, width = seen.seen.shape[1:]
    return f"{rows}. Beside each image is the network's view of it, {height} x {width} pixels."
