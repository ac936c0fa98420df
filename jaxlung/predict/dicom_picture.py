"""One DICOM file as a grey picture: an X-ray, or a single slice of a CT."""

import contextlib
import dataclasses
import pathlib
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom import pixels as dicom_pixels

from jaxlung.image import deep_colour
from jaxlung.volume import dicom_file, hounsfield

# Projections and what they are scanned or captured as; "" where an anonymiser took it out.
MODALITIES = ("CR", "DX", "DR", "RG", "RF", "XA", "OT", "SC", dicom_file.CT, "")
# Of one slice of a CT, whose own window is often one in which lungs are black (our choice): the
# window in which slices are published, see `hounsfield.to_hu`.
_LUNG_WINDOW_HU = (-1250.0, 250.0)
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_BEYOND = np.array([-1e30, 1e30])  # values outside of every window
# A file may be this large: more than any kind of pixel needs, and a generous header.
_MOST_BYTES_PER_PIXEL = 16
_HEADER_BYTES = 64 * 2**20
_REASON_WIDTH = 150  # pydicom may quote half of a damaged file
_CODE_WIDTH = 16  # letters in a CS
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # that a window may have
_OPPOSITE = dict(zip("LRAPHF", "RLPAFH", strict=True))


@dataclasses.dataclass(frozen=True)
class Stored:
    """A file's picture on its own pixel grid.

    Attributes:
        image: [H, W] uint8, bone white.
        orientation: the EXIF number of the turn that puts the head up: 1, 3, 6 or 8.
        pixel_mm: height and width of a stored pixel, or None.
        mirrored: after the turn, the patient's right is on the image's right; None if unknown.
    """

    image: np.ndarray
    orientation: int
    pixel_mm: tuple[float, float] | None
    mirrored: bool | None


def read(path: pathlib.Path, max_pixels: int) -> Stored:
    """The picture as a viewer would show it, and what the header says of its place in space.

    Values go through the modality's rescale, then through the first VOI LUT or window of the
    header; without one, the least becomes 0 and the greatest 255. A window without width, or of an
    empty or unknown function, counts as none. Pixels marked as padding don't count for the range
    and are black. MONOCHROME1 is inverted. Colours become luminance; those of more than 8 bits are
    stretched as greys are. A CT slice is seen through the lung window, whatever its own.

    The turn and the side come from PatientOrientation alone. ImageLaterality names the part of
    the body, and FieldOfViewHorizontalFlip what was done since the detector, which may stand
    before or behind the patient: neither says on which side of the image the patient's right is.

    A pixel's size is PixelSpacing; else ImagerPixelSpacing, which is of the detector, over
    EstimatedRadiographicMagnificationFactor where that is known; else NominalScannedPixelSpacing.

    Raises:
        ValueError: naming the file: another modality, no pixels or more than `max_pixels`, several
            frames, a compression that nothing installed decodes (naming what to install), damage.
    """
    _require_bytes(path, max_pixels)
    if dicom_file.is_deflated(path):  # It may unpack to any size.
        raise ValueError(f"{path}: want a DICOM file that is not deflated as a whole, got one.")
    dataset = dicom_file.read(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    modality = dicom_file.modality(path, dataset)
    with _damage_of(path):
        shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        frames = int(dataset.get("NumberOfFrames") or 1)
        has_pixels = "PixelData" in dataset
        orientation, mirrored = _orientation(dataset)
        pixel_mm = _pixel_mm(dataset)
    _require_picture(path, modality, shape, frames, max_pixels)
    if not has_pixels:
        raise ValueError(f"{path}: truncated: it ends before its pixels.")
    dicom_file.require_decoder(path, syntax)
    with _damage_of(path, f"{syntax.name} pixels"):
        image = _image(dataset, shape, modality)
    return Stored(image, orientation, pixel_mm, mirrored)


@contextlib.contextmanager
def _damage_of(path: pathlib.Path, what: str = "") -> Iterator[None]:
    try:
        yield
    except dicom_file.DAMAGE as error:
        reason = textwrap.shorten(str(error), _REASON_WIDTH) or type(error).__name__
        what = f"{what}: " if what else ""
        raise ValueError(f"{path}: {what}truncated or damaged ({reason}).") from error


def _require_bytes(path: pathlib.Path, max_pixels: int) -> None:
    limit, size = _MOST_BYTES_PER_PIXEL * max_pixels + _HEADER_BYTES, path.stat().st_size
    if size > limit:
        raise ValueError(
            f"{path}: want at most {limit:,} bytes for {max_pixels:,} pixels, got {size:,}."
        )


def _require_picture(
    path: pathlib.Path, modality: str, shape: tuple[int, int], frames: int, max_pixels: int
) -> None:
    if modality not in MODALITIES:
        names = ", ".join(filter(None, MODALITIES))
        raise ValueError(f"{path}: want an X-ray or a CT slice ({names}), got {modality!r}.")
    if min(shape) < 1:
        raise ValueError(f"{path}: want an image, got {shape[0]} rows and {shape[1]} columns.")
    if frames != 1:
        raise ValueError(f"{path}: want one image a file, got a multi-frame file of {frames}.")
    if shape[0] * shape[1] > max_pixels:
        raise ValueError(
            f"{path}: want at most {max_pixels:,} pixels, got {shape[0]} x {shape[1]}."
        )


def _image(dataset: pydicom.Dataset, shape: tuple[int, int], modality: str) -> np.ndarray:
    """[H, W] uint8 of a dataset with pixels."""
    stored = dicom_pixels.pixel_array(dataset)
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        stored = dicom_pixels.apply_color_lut(stored, dataset)
    if stored.shape[:2] != shape:
        raise ValueError(f"want pixels of {shape}, got {stored.shape}")
    if stored.ndim == 3:
        return _luminance(stored)
    if photometric not in _GREYS:
        raise ValueError(f"want {' or '.join(_GREYS)}, got {photometric!s:.{_CODE_WIDTH}}")
    padding = _padding(stored, dataset)
    with np.errstate(all="ignore"):
        values = dicom_pixels.apply_modality_lut(stored, dataset)
        scaled = _scaled(values, padding, dataset, modality)
    if not np.isfinite(scaled).all():
        raise ValueError("a rescale or window that gives no finite numbers")
    if photometric == "MONOCHROME1":
        scaled = 1 - scaled
    return np.where(padding, 0, np.rint(255 * scaled)).astype(np.uint8)


def _luminance(colours: np.ndarray) -> np.ndarray:
    """ITU-R 601, as of any other picture."""
    if colours.dtype == np.uint8:
        return np.asarray(Image.fromarray(colours).convert("L"))
    return deep_colour.stretch(deep_colour.luminance(deep_colour.Channels(colours, None)))


def _padding(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """[H, W] bool: outside of what was imaged, as PS3.3 C.7.5.1.1.2 has it."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(first), int(first if last is None else last)))
    return (stored >= ends[0]) & (stored <= ends[1])


def _scaled(
    values: np.ndarray, padding: np.ndarray, dataset: pydicom.Dataset, modality: str
) -> np.ndarray:
    """Values after the rescale to [0, 1], as they are to be seen."""
    if modality == dicom_file.CT:
        return hounsfield.scale(values, _LUNG_WINDOW_HU)
    if dataset.get("VOILUTSequence"):
        return _through_lut(values, dataset)
    if _has_window(dataset):
        windowed = dicom_pixels.apply_windowing(values, dataset)
        # Pydicom's range is of the bits stored; where a window ends in it, only it knows.
        low, high = dicom_pixels.apply_windowing(_BEYOND, dataset)
        return np.clip((windowed - low) / (high - low), 0, 1)
    inside = values[~padding]
    low, high = (inside.min(), inside.max()) if inside.size else (0, 0)
    return np.clip((values.astype(float) - low) / (float(high - low) or 1.0), 0, 1)


def _has_window(dataset: pydicom.Dataset) -> bool:
    """Whether there is a window, and one that PS3.3 C.11.2.1.2 allows."""
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    # An element that is there but empty names no function.
    function = str(dataset.get("VOILUTFunction", "LINEAR")).strip().upper()
    if center is None or width is None or not np.isfinite([center, width]).all():
        return False
    return function in _FUNCTIONS and (width >= 1 if function == "LINEAR" else width > 0)


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None if there is none."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return None if not values or values[0] in (None, "") else float(values[0])


def _through_lut(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Its least entry is black and its greatest white: the depth it claims is often wrong."""
    entries, first = (int(x) for x in dataset.VOILUTSequence[0].LUTDescriptor[:2])
    inputs = np.arange(first, first + (entries or 2**16))
    table = dicom_pixels.apply_voi(inputs, dataset).astype(float)
    nearest = np.clip(np.rint(values), inputs[0], inputs[-1]).astype(int) - first
    span = table.max() - table.min()
    return (table[nearest] - table.min()) / (span or 1.0)


def _orientation(dataset: pydicom.Dataset) -> tuple[int, bool | None]:
    """The turn that puts the head up, and whether the patient's right is then on the right."""
    value = dataset.get("PatientOrientation")
    if not value or isinstance(value, str) or len(value) != 2:
        return 1, None
    # Where rows and columns go; of "LF" the first letter is the main direction.
    right, down = (str(direction)[:1] for direction in value)
    turn = 1
    if down == "H":
        turn, right = 3, _OPPOSITE.get(right)
    elif right == "F":
        turn, right = 6, _OPPOSITE.get(down)
    elif right == "H":
        turn, right = 8, down
    return turn, {"L": False, "R": True}.get(right)


def _pixel_mm(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    magnification = dataset.get("EstimatedRadiographicMagnificationFactor") or 1.0
    scales = dict(
        PixelSpacing=1.0, ImagerPixelSpacing=magnification, NominalScannedPixelSpacing=1.0
    )
    for name, scale in scales.items():
        value = dataset.get(name)
        if value and not isinstance(value, str) and len(value) == 2:
            row, column = (float(x) / float(scale) for x in value)
            if 0 < row < np.inf and 0 < column < np.inf:
                return row, column
    return None
