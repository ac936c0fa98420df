"""Pictures of any kind as the network was trained to see them, and back to the file's grid."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxlung.image import decoder
from jaxlung.predict import dicom_picture, formats, quiet

# Steps along stored rows and columns, before they are exchanged: EXIF 2.3, tag Orientation.
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
    """A picture, upright.

    Attributes:
        image: [H, W] uint8, bone white.
        orientation: EXIF number of how the file stores it, 1 to 8; 1 is as it is.
        pixel_mm: height and width of a pixel of `image` in mm, or None where the file doesn't
            say (dots per inch are of a printer, and not believed).
        mirrored: the header says that the patient's right is not on the image's left; None where
            it says nothing.
        kind: "PNG", "JPEG", "TIFF" or "DICOM".
    """

    image: np.ndarray
    orientation: int
    pixel_mm: tuple[float, float] | None
    mirrored: bool | None
    kind: str


def read(path: os.PathLike[str] | str, max_pixels: int) -> Picture:
    """A PNG, JPEG, TIFF or DICOM file, told by its content, as training reads it.

    What becomes of its pixels is said at `decoder.grey`, and of DICOM at `dicom_picture.read`. Of a
    JPEG with several pictures the first one is read.

    Args:
        path: of the file.
        max_pixels: height times width that is refused before it is decoded if exceeded.

    Raises:
        ValueError: naming the file: it can't be read, is none of these or damaged, has several
            pages or frames, or too many pixels (outside of `limit` always if more than Pillow's
            own limit of `2 * PIL.Image.MAX_IMAGE_PIXELS`).
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
    """Inside, Pillow's own limit, which is of the whole process, is twice `max_pixels`.

    It also holds for what only Pillow sees, such as the tiles that a TIFF declares.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def to_stored(mask: np.ndarray, picture: Picture) -> np.ndarray:
    """What was found in an upright picture, on the pixel grid of its file.

    Args:
        mask: [H, W] or [H, W, ...] of any dtype, of the size of `picture.image`.
        picture: as read.

    Returns:
        [h, w, ...] of the same dtype: stored rows and columns.

    Raises:
        ValueError: the sizes differ.
    """
    if mask.shape[:2] != picture.image.shape:
        raise ValueError(f"mask {mask.shape} and image {picture.image.shape} must agree.")
    row_step, column_step = _STEPS[picture.orientation]
    return _exchanged(mask, picture.orientation)[::row_step, ::column_step]


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    row_step, column_step = _STEPS[orientation]
    return np.ascontiguousarray(_exchanged(stored[::row_step, ::column_step], orientation))


def _exchanged(array: np.ndarray, orientation: int) -> np.ndarray:
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
        decoder.opened(file, str(path), [kind], max_pixels) as image,
    ):
        if kind == "TIFF" and image.is_animated:
            raise decoder.RefusedError("want one picture a file, got a TIFF of several pages")
        decoded = decoder.decode(image)
        return Picture(decoder.grey(decoded), decoded.orientation, None, None, kind)
