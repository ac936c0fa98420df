"""Writes PNG files."""

import io

import numpy as np
from etils import epath
from PIL import Image

from jaxlung.host import files


def write(path: epath.Path, array: np.ndarray) -> None:
    """Writes [H, W] uint8 or uint16, or [H, W, 3] uint8, as a PNG, whole or not at all."""
    content = io.BytesIO()
    # Level 1 takes a third of the time, and masks are small at any level.
    Image.fromarray(np.ascontiguousarray(array)).save(content, "PNG", compress_level=1)
    files.write_bytes(path, content.getvalue())
