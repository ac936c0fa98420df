"""What is known of one image, whatever the format of its annotation."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from tfds_builders import raw_tree

LUNG, IGNORE = "Lung", "Ignore"
Shape = tuple[np.ndarray, ...]  # Rings, [N, 2] float32 x and y in pixels; inside is even-odd.


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Lungs and tags of an image.

    Attributes:
        image_id: Darwin's number of the image, or else the stem of its file.
        name: of the annotation's file in the tree.
        file_names: names that the image's file may have, best first.
        size: columns and rows in pixels that the lungs are drawn on.
        tags: as written, "View/PA" or "Age:55".
        lungs: outlines; may be empty.
        mask: name of a PNG mask in place of outlines, or None.
        lung_level: grey level of lung in that mask.
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
        """Whether there is an outline or a mask of lungs."""
        return bool(self.lungs) or self.mask is not None


def read_json(tree: raw_tree.RawTree, name: str) -> Any:
    """Reads a .json or .json.gz file; bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: it is cut short or no JSON; names it.
    """
    is_packed = name.lower().endswith(".gz")
    content = raw_tree.read_gzip(tree, name) if is_packed else tree.read(name)
    try:
        return json.loads(content.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{tree.where}: {name} is not whole JSON ({error}).") from error


def make_size(width: Any, height: Any) -> tuple[int, int]:
    """Columns and rows.

    Raises:
        ValueError: not whole, positive numbers.
    """
    for value in (width, height):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"want width and height in pixels, got {width!r} and {height!r}")
    return width, height


def make_shape(rings: list[list[tuple[float, float]]]) -> Shape:
    """Outlines of one object; rings of fewer than three points enclose nothing and are dropped.

    Raises:
        ValueError: a coordinate that is not a finite number.
    """
    for x, y in (point for ring in rings for point in ring):
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"want finite coordinates, got {x}, {y}")
    return tuple(np.array(ring, np.float32) for ring in rings if len(ring) >= 3)


def require_known_class(name: str) -> None:
    """Refuses a drawn object that is neither lung nor to be ignored."""
    if name not in (LUNG, IGNORE):
        raise ValueError(f"want outlines of {LUNG} or {IGNORE}, got {name!r}")
