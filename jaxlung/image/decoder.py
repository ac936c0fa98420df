"""Decodes picture files with Pillow, within bounds: all bits of every channel, upright."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageFile,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from jaxlung.host import files
from jaxlung.image import deep_colour

# Errors that Pillow raises for damaged files.
ERRORS = (*files.DECODE_ERRORS, SyntaxError, Image.DecompressionBombError)
TRANSPOSING = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns

# Pillow limits profiles and texts in a PNG to 1 MiB; scanners' profiles are larger.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, 16 * 2**20)
_MOST_SCANS = 100  # A progressive JPEG has about ten, and each decodes the whole picture.
_SCAN = b"\xff\xda"

# Numbers of TIFF tags, and some of their values.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_PLANES, _SAMPLE_FORMAT = 284, 339
_WHITE_IS_ZERO = 0
_SEPARATE = 2
_SIGNED = 2
_SAMPLES = {1: "unsigned integers", 2: "signed integers", 3: "floating point"}
_JPEG_2000 = 34712
_BIG_TIFF = 43  # The number in the header of a 64-bit TIFF.


class RefusedError(ValueError):
    """The error for a file that is refused though it may be intact; `opened` adds its name."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A decoded picture, upright.

    Attributes:
        image: image in any of Pillow's modes; not loaded if the pixels are in `deep`.
        deep: bands of a colour picture with 16 bits a channel, or None.
        orientation: EXIF number of the stored orientation, 1 to 8; 1 is upright.
    """

    image: Image.Image
    deep: deep_colour.Channels | None
    orientation: int

    @property
    def is_lossy(self) -> bool:
        """True if pixel values are approximate, as in a JPEG."""
        return self.image.format not in ("PNG", "TIFF")


@contextlib.contextmanager
def opened(
    file: BinaryIO, where: str, formats: tuple[str, ...] | None, max_pixels: int | None = None
) -> Iterator[ImageFile.ImageFile]:
    """Opens a picture without decoding it; errors inside become one ValueError.

    Args:
        file: open for reading.
        where: name of the file in messages.
        formats: Pillow's names of the formats to accept; None accepts all.
        max_pixels: largest height times width; None leaves Pillow's own limit.

    Raises:
        ValueError: the file is damaged, too large, of another format, or refused; names it.
    """
    kind = " or ".join(formats or ("an image",))
    try:
        with Image.open(file, formats=formats) as image:
            width, height = image.size
            if max_pixels and width * height > max_pixels:
                raise RefusedError(f"want at most {max_pixels:,} pixels, got {height} x {width}")
            yield image
    except RefusedError as error:
        raise ValueError(f"{where}: {error}.") from error
    except Image.DecompressionBombError as error:
        most = min(filter(None, (max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or 0))))
        raise ValueError(f"{where}: want at most {most:,} pixels, got more.") from error
    except ERRORS as error:
        # Pillow doesn't know the format, the kind of pixels or the compression.
        unknown = isinstance(error, UnidentifiedImageError | KeyError)
        if unknown and (described := _unsupported_tiff(file)):
            raise ValueError(f"{where}: {described} is not supported.") from error
        # Pillow's message would name the file object.
        reason = "its header can't be read" if unknown else str(error) or type(error).__name__
        raise ValueError(f"{where}: can't be decoded as {kind} ({reason}).") from error


def open_file(path: pathlib.Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, a pipe or a device. Opening a pipe would wait for its other end.
    """
    if not path.is_file() and path.exists():
        raise ValueError(f"{path}: want a file, got a folder, a pipe or a device.")
    return path.open("rb")


def decode(image: ImageFile.ImageFile) -> Decoded:
    """Decodes an open picture.

    Raises:
        RefusedError: a JPEG with too many scans, or a TIFF with 16-bit colours in separate planes.
        ValueError, or another of `ERRORS`: the picture is damaged.
    """
    # This comes first: EXIF data may be last in a PNG, and asking for them then loads the picture.
    file, kind, is_deep = image.fp, image.format, deep_colour.is_deep(image)
    _require_few_scans(image)
    # Before the picture is loaded, because loading rotates a TIFF and removes the tag.
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    if is_deep:
        assert file is not None  # An open image has both.
        assert kind is not None
        if deep_colour.tiff_tags(image).get(_PLANES) == _SEPARATE:
            raise RefusedError("a TIFF with 16-bit colours in separate planes is not supported")
        return Decoded(image, deep_colour.load(file, kind), orientation)
    image.load()
    if image.mode in ("P", "PA") and image.palette is None:
        raise ValueError("it has no palette")
    if orientation != 1:
        ImageOps.exif_transpose(image, in_place=True)  # A copy would forget the format.
    return Decoded(image, None, orientation)


def grey(decoded: Decoded) -> np.ndarray:
    """Converts a picture to grey.

    Colour becomes luminance (ITU-R 601) and transparency shows black. Pictures with more than 8
    bits a channel are stretched from their own minimum and maximum to [0, 255].

    Returns:
        [H, W] uint8.

    Raises:
        ValueError: a pixel is NaN or infinite.
    """
    image = decoded.image
    if decoded.deep:
        return deep_colour.stretch(deep_colour.luminance(decoded.deep))
    tags = deep_colour.tiff_tags(image)
    if image.mode.startswith(("I", "F")):
        values = deep_colour.stretch(np.asarray(image))
        # Pillow inverts only pictures of 8 bits or fewer.
        return 255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values
    values = np.asarray(_opaque(image).convert("L"))
    # Pillow reads signed bytes as unsigned.
    return values ^ np.uint8(128) if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) else values


def channels(decoded: Decoded) -> deep_colour.Channels:
    """Returns the bands of a picture: grey or RGB, and its opacity."""
    image = decoded.image
    if decoded.deep:
        return decoded.deep
    if image.mode.startswith(("I", "F")):
        return deep_colour.Channels(np.asarray(image)[..., None], None)
    if image.has_transparency_data:
        bands = np.asarray(image.convert("RGBA"))
        return deep_colour.Channels(bands[..., :3], bands[..., 3])
    if image.mode in ("1", "L"):
        return deep_colour.Channels(np.asarray(image.convert("L"))[..., None], None)
    return deep_colour.Channels(np.asarray(image.convert("RGB")), None)


def _opaque(image: Image.Image) -> Image.Image:
    """Returns the image in mode "L" or "RGB", transparency over black."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _require_few_scans(image: ImageFile.ImageFile) -> None:
    if image.info.get("progressive") and image.fp:
        image.fp.seek(0)
        num_scans = image.fp.read().count(_SCAN)
        if num_scans > _MOST_SCANS:
            raise RefusedError(f"want a JPEG of at most {_MOST_SCANS} scans, got {num_scans:,}")


def _unsupported_tiff(file: BinaryIO) -> str:
    """Describes an intact TIFF of a kind that Pillow can't read; "" for any other file."""
    try:
        file.seek(0)
        head = file.read(8)
        head += file.read(8) if _BIG_TIFF in head[2:4] else b""
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
    except ERRORS:
        return ""
    if not isinstance(tags.get(_WIDTH), int) or not isinstance(tags.get(_HEIGHT), int):
        return ""
    compression, photometric = tags.get(_COMPRESSION, 1), tags.get(_PHOTOMETRIC)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        name = "JPEG 2000" if compression == _JPEG_2000 else f"compression {compression}"
        return f"a TIFF with {name}"
    samples, bits = tags.get(_SAMPLE_FORMAT, (1,))[0], max(tags.get(_BITS, (1,)))
    kind = _SAMPLES.get(samples, f"samples of format {samples}")
    return f"a TIFF of {bits}-bit {kind} (photometric interpretation {photometric})"
