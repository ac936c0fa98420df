"""Pictures of any kind as the network was trained to see them, and back to the file's grid."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from jaxlung.data import image_file
from jaxlung.predict import dicom_picture, formats, quiet

_TRANSPOSING = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns
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
_PHOTOMETRIC = 262  # tag of TIFF
_WHITE_IS_ZERO = 0


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
    """A PNG, JPEG, TIFF or DICOM file, told by its content, as `image_file.read_image` has it.

    Colour becomes luminance (ITU-R 601), transparency shows black, and what has more than 8 bits
    is stretched from its own minimum and maximum to [0, 255]; of DICOM see `dicom_picture.read`.
    Of a JPEG with several pictures the first one is read.

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
    return array.swapaxes(0, 1) if orientation in _TRANSPOSING else array


def _dicom(path: pathlib.Path, max_pixels: int) -> Picture:
    stored = dicom_picture.read(path, max_pixels)
    pixel_mm = stored.pixel_mm
    if pixel_mm and stored.orientation in _TRANSPOSING:
        pixel_mm = pixel_mm[::-1]
    image = _upright(stored.image, stored.orientation)
    return Picture(image, stored.orientation, pixel_mm, stored.mirrored, "DICOM")


def _picture(path: pathlib.Path, kind: str, max_pixels: int) -> Picture:
    try:
        # By its path Pillow would map an uncompressed TIFF, and take its rows for its columns
        # if its orientation exchanges them.
        with path.open("rb") as file, Image.open(file, formats=[kind]) as image:
            size, has_pages = image.size, kind == "TIFF" and image.is_animated
            if not has_pages and np.prod(size) <= max_pixels:
                grey, orientation = _decode(image)
                return Picture(grey, orientation, None, None, kind)
    except Image.DecompressionBombError as error:
        most = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ValueError(f"{path}: want at most {most:,} pixels, got more.") from error
    except UnidentifiedImageError as error:  # Its words are of the open file, not of what is in it.
        raise ValueError(f"{path}: damaged {kind}: its header can't be read.") from error
    except image_file.DECODE_ERRORS as error:
        raise ValueError(f"{path}: can't be decoded as {kind} ({error}).") from error
    if has_pages:
        raise ValueError(f"{path}: want one picture a file, got a TIFF of several pages.")
    width, height = size
    raise ValueError(f"{path}: want at most {max_pixels:,} pixels, got {height} x {width}.")


def _decode(image: Image.Image) -> tuple[np.ndarray, int]:
    """The open image upright in grey, and the orientation that it was stored in."""
    # Before it is loaded: loading turns a TIFF, and takes the tag out.
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    grey = image_file.grey(image)
    # Pillow inverts what has 8 bits or fewer.
    if inverted and image.mode.startswith(("I", "F")):
        grey = 255 - grey
    return grey, orientation if orientation in _STEPS else 1
