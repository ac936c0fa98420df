"""The annotation of one image, whichever format it was read from."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from tfds_builders import raw_tree

LUNG, IGNORE = "Lung", "Ignore"
# Rings, each [N, 2] float32 of x and y in pixels; the inside follows the even-odd rule.
Shape = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The lungs and tags of an image.

    Attributes:
        image_id: Darwin's number of the image, or the stem of its file if there is none.
        name: name of the annotation's file in the tree.
        file_names: names that the image's file may have, most likely first.
        size: columns and rows in pixels that the lungs are drawn on.
        tags: tags as written, "View/PA" or "Age:55".
        lungs: outlines of lungs, may be ().
        mask: name of a PNG mask that replaces outlines, or None.
        lung_level: grey level of lungs in `mask`.
    """

    image_id: str
    name: str
    file_names: tuple[str, ...]
    size: tuple[int, int]
    tags: tuple[str, ...] = ()
    lungs: tuple[Shape, ...] = ()
    mask: str | None = None
    lung_level: int = 255

    @property
    def has_lungs(self) -> bool:
        """True if there is an outline or a mask of lungs."""
        return bool(self.lungs) or self.mask is not None


def read_json(tree: raw_tree.RawTree, name: str) -> Any:
    """Reads a .json or .json.gz file; bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: the file is truncated or not JSON; names the file.
    """
    is_packed = name.lower().endswith(".gz")
    content = raw_tree.read_gzip(tree, name) if is_packed else tree.read(name)
    try:
        return json.loads(content.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{tree.where}: {name} is not whole JSON ({error}).") from error


def make_size(width: Any, height: Any) -> tuple[int, int]:
    """Returns width and height as columns and rows.

    Raises:
        ValueError: they are not positive whole numbers.
    """
    for value in (width, height):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"want width and height in pixels, got {width!r} and {height!r}")
    return width, height


def make_shape(rings: list[list[tuple[float, float]]]) -> Shape:
    """Makes the shape of one object; drops rings of fewer than three points, which enclose nothing.

    Raises:
        ValueError: a coordinate is not a finite number.
    """
    for x, y in (point for ring in rings for point in ring):
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"want finite coordinates, got {x}, {y}")
    return tuple(np.array(ring, np.float32) for ring in rings if len(ring) >= 3)


def require_known_class(name: str) -> None:
    """Raises ValueError for a drawn object whose class is neither `LUNG` nor `IGNORE`."""
    if name not in (LUNG, IGNORE):
        raise ValueError(f"want outlines of {LUNG} or {IGNORE}, got {name!r}")
