"""Reads pictures of any format upright and bone white, and maps masks back to the file's grid."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxlung.image import decoder
from jaxlung.predict import dicom_picture, formats, quiet

# Steps along stored rows and columns before they are swapped, by EXIF 2.3's tag Orientation.
_STEPS = {
    1: (1, 1),
    2: (1, -1),
    3: (-1, -1),
    4: (-1, 1),
    5: (1, 1),
    6: (-1, 1),
    7: (-1, -1),
    8: (1, -1),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        image: [H, W] uint8, bone white.
        orientation: EXIF number of the orientation in which the file stores it, 1 (upright) to 8.
        pixel_mm: height and width of a pixel of `image` in mm; None if unknown. Dots per inch are
            ignored, as they are meant for printers.
        mirrored: True if the patient's right is on the image's right; None if unknown.
        kind: "PNG", "JPEG", "TIFF" or "DICOM".
    """

    image: np.ndarray
    orientation: int
    pixel_mm: tuple[float, float] | None
    mirrored: bool | None
    kind: str


def read(path: os.PathLike[str] | str, max_pixels: int) -> Picture:
    """Reads a PNG, JPEG, TIFF or DICOM file, recognised by its content, as training does.

    `decoder.grey` and, for DICOM, `dicom_picture.read` say how pixels become greys. If a JPEG has
    several pictures, the first one is read.

    Args:
        path: the file.
        max_pixels: largest height times width; checked before the picture is decoded.

    Raises:
        ValueError: the file can't be read, is damaged or of another format, or has several pages
            or frames or too many pixels; names the file. Outside of `limit`, pictures above
            Pillow's own limit of `2 * PIL.Image.MAX_IMAGE_PIXELS` are always refused.
    """
    path = pathlib.Path(path)
    with quiet.region():
        kind = formats.sniff(path)
        if kind == "DICOM":
            return _dicom(path, max_pixels)
        if kind in formats.PICTURES:
            return _picture(path, kind, max_pixels)
    if kind:
        raise ValueError(f"{path}: want a picture, got a volume ({kind}).")
    raise formats.refuse(path)


@contextlib.contextmanager
def limit(max_pixels: int) -> Iterator[None]:
    """Sets Pillow's limit, which the process shares, to twice `max_pixels` for the body.

    It also covers sizes that only Pillow checks, such as the tiles that a TIFF declares.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def to_stored(mask: np.ndarray, picture: Picture) -> np.ndarray:
    """Turns the mask of an upright picture into the orientation of the picture's file.

    Args:
        mask: [H, W] or [H, W, ...] of any dtype, as large as `picture.image`.
        picture: the picture from `read`.

    Returns:
        [h, w, ...] of the same dtype, the file's rows and columns.

    Raises:
        ValueError: mask and picture differ in size.
    """
    if mask.shape[:2] != picture.image.shape:
        raise ValueError(f"mask {mask.shape} and image {picture.image.shape} must agree.")
    row_step, column_step = _STEPS[picture.orientation]
    return _swapped(mask, picture.orientation)[::row_step, ::column_step]


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    row_step, column_step = _STEPS[orientation]
    return np.ascontiguousarray(_swapped(stored[::row_step, ::column_step], orientation))


def _swapped(array: np.ndarray, orientation: int) -> np.ndarray:
    return array.swapaxes(0, 1) if orientation in decoder.TRANSPOSING else array


def _dicom(path: pathlib.Path, max_pixels: int) -> Picture:
    stored = dicom_picture.read(path, max_pixels)
    pixel_mm = stored.pixel_mm
    if pixel_mm and stored.orientation in decoder.TRANSPOSING:
        pixel_mm = pixel_mm[::-1]
    image = _upright(stored.image, stored.orientation)
    return Picture(image, stored.orientation, pixel_mm, stored.mirrored, "DICOM")


def _picture(path: pathlib.Path, kind: str, max_pixels: int) -> Picture:
    with (
        decoder.open_file(path) as file,
        decoder.opened(file, str(path), (kind,), max_pixels) as image,
    ):
        if kind == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise decoder.RefusedError("want one picture a file, got a TIFF of several pages")
        decoded = decoder.decode(image)
        return Picture(decoder.grey(decoded), decoded.orientation, None, None, kind)
