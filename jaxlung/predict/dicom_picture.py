"""Reads one DICOM file, an X-ray or a single slice of a CT, as a grey picture."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom import pixels as dicom_pixels

from jaxlung.image import deep_colour
from jaxlung.volume import dicom_file, hounsfield

# Modalities of X-rays, scanned films and screen captures; "" if an anonymiser removed it.
MODALITIES = ("CR", "DX", "DR", "RG", "RF", "XA", "OT", "SC", dicom_file.CT, "")
# The window for one slice of a CT (our choice), because in the slice's own window lungs are often
# black. Slices are published in this window, see `hounsfield.to_hu`.
_LUNG_WINDOW_HU = (-1250.0, 250.0)
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_BEYOND = np.array([-1e30, 1e30])  # values outside of every window
# Limits of a file's size: more than any kind of pixel needs, and a generous header.
_MOST_BYTES_PER_PIXEL = 16
_HEADER_BYTES = 64 * 2**20
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # of a window
_OPPOSITE = dict(zip("LRAPHF", "RLPAFH", strict=True))


@dataclasses.dataclass(frozen=True)
class Stored:
    """A file's picture as stored, before it is turned upright.

    Attributes:
        image: [H, W] uint8, bone white.
        orientation: EXIF number of the rotation that turns the head up: 1, 3, 6 or 8.
        pixel_mm: height and width of a stored pixel in mm; None if unknown.
        mirrored: True if the patient's right is on the image's right after the rotation; None if
            unknown.
    """

    image: np.ndarray
    orientation: int
    pixel_mm: tuple[float, float] | None
    mirrored: bool | None


def read(path: pathlib.Path, max_pixels: int) -> Stored:
    """Reads the picture as a viewer would show it, with its orientation and pixel size.

    Values go through the modality's rescale, then through the header's first VOI LUT or window.
    Without one, the least value becomes 0 and the greatest 255. A window without width, or with an
    empty or unknown function, is ignored. Pixels marked as padding are black and don't count for
    the range. MONOCHROME1 is inverted. Colours become luminance; colours of more than 8 bits are
    stretched as greys are. A CT slice is always shown in the lung window.

    Rotation and mirroring come from PatientOrientation alone. ImageLaterality names the part of
    the body, and FieldOfViewHorizontalFlip a flip since the detector, which may stand before or
    behind the patient: neither says on which side of the image the patient's right is.

    The pixel size is PixelSpacing. Without that, it is ImagerPixelSpacing, the detector's, divided
    by EstimatedRadiographicMagnificationFactor if that is known; or NominalScannedPixelSpacing.

    Raises:
        ValueError: the file is of another modality, damaged, has no pixels, more than `max_pixels`
            or several frames, or its compression needs a package that isn't installed (which the
            message names). The message names the file.
    """
    _require_bytes(path, max_pixels)
    if dicom_file.is_deflated(path):  # It may expand to any size.
        raise ValueError(f"{path}: got a DICOM file deflated as a whole, want an ordinary one.")
    dataset = dicom_file.read(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    modality = dicom_file.modality(path, dataset)
    with _damage_of(path):
        shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        frames = int(dataset.get("NumberOfFrames") or 1)
        has_pixels = "PixelData" in dataset
        orientation, mirrored = _orientation(dataset)
        size_mm = pixel_mm(dataset)
    _require_picture(path, modality, shape, frames, max_pixels)
    if not has_pixels:
        raise ValueError(f"{path}: truncated: it ends before its pixels.")
    dicom_file.require_decoder(path, syntax)
    with _damage_of(path, f"{syntax.name} pixels"):
        image = _image(dataset, shape, modality)
    return Stored(image, orientation, size_mm, mirrored)


@contextlib.contextmanager
def _damage_of(path: pathlib.Path, what: str = "") -> Iterator[None]:
    try:
        yield
    except dicom_file.DAMAGE as error:
        what = f"{what}: " if what else ""
        reason = dicom_file.reason(error)
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
    """Returns the picture of a dataset with pixels, [H, W] uint8."""
    stored = dicom_pixels.pixel_array(dataset)
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        stored = dicom_pixels.apply_color_lut(stored, dataset)
    if stored.shape[:2] != shape:
        raise ValueError(f"want pixels of {shape}, got {stored.shape}")
    if stored.ndim == 3:
        return _luminance(stored)
    if photometric not in _GREYS:
        raise ValueError(
            f"want {' or '.join(_GREYS)}, got {photometric!s:.{dicom_file.CODE_WIDTH}}"
        )
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
    """Returns the luminance by ITU-R 601, as for other pictures, [H, W] uint8."""
    if colours.dtype == np.uint8:
        return np.asarray(Image.fromarray(colours).convert("L"))
    return deep_colour.stretch(deep_colour.luminance(deep_colour.Channels(colours, None)))


def _padding(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Returns the pixels outside of the imaged area (PS3.3 C.7.5.1.1.2), [H, W] bool."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(first), int(first if last is None else last)))
    return (stored >= ends[0]) & (stored <= ends[1])


def _scaled(
    values: np.ndarray, padding: np.ndarray, dataset: pydicom.Dataset, modality: str
) -> np.ndarray:
    """Scales values after the rescale to display values in [0, 1]."""
    if modality == dicom_file.CT:
        return np.asarray(hounsfield.scale(values, _LUNG_WINDOW_HU))
    if dataset.get("VOILUTSequence"):
        return _through_lut(values, dataset)
    if _has_window(dataset):
        windowed = dicom_pixels.apply_windowing(values, dataset)
        # Pydicom scales to the range of the stored bits; windowing extreme values gives its ends.
        low, high = dicom_pixels.apply_windowing(_BEYOND, dataset)
        return np.clip((windowed - low) / (high - low), 0, 1)
    inside = values[~padding]
    low, high = (inside.min(), inside.max()) if inside.size else (0, 0)
    return np.clip((values.astype(float) - low) / (float(high - low) or 1.0), 0, 1)


def _has_window(dataset: pydicom.Dataset) -> bool:
    """Returns True if there is a window and PS3.3 C.11.2.1.2 allows it."""
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    # The default is for a missing element: an empty one names no function.
    function = str(dataset.get("VOILUTFunction", "LINEAR")).strip().upper()
    if center is None or width is None or not np.isfinite([center, width]).all():
        return False
    return function in _FUNCTIONS and (width >= 1 if function == "LINEAR" else width > 0)


def _first(value: Any) -> float | None:
    """Returns the first of one or several numbers; None if there is none."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return None if not values or values[0] in (None, "") else float(values[0])


def _through_lut(values: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Maps values through the VOI LUT, scaled so that its least entry is 0 and its greatest 1.

    The depth that a LUT claims is often wrong, so it isn't used.
    """
    entries, first = (int(x) for x in dataset.VOILUTSequence[0].LUTDescriptor[:2])
    inputs = np.arange(first, first + (entries or 2**16))
    table = dicom_pixels.apply_voi(inputs, dataset).astype(float)
    nearest = np.clip(np.rint(values), inputs[0], inputs[-1]).astype(int) - first
    span = table.max() - table.min()
    return (table[nearest] - table.min()) / (span or 1.0)


def _orientation(dataset: pydicom.Dataset) -> tuple[int, bool | None]:
    """Returns the rotation that turns the head up, and `Stored.mirrored`."""
    value = dataset.get("PatientOrientation")
    if not value or isinstance(value, str) or len(value) != 2:
        return 1, None
    # Directions of rows and of columns; the first letter of "LF" is the main direction.
    right: str | None
    right, down = (str(direction)[:1] for direction in value)
    turn = 1
    if down == "H":
        turn, right = 3, _OPPOSITE.get(right)
    elif right == "F":
        turn, right = 6, _OPPOSITE.get(down)
    elif right == "H":
        turn, right = 8, down
    return turn, {"L": False, "R": True}.get(right or "")


def pixel_mm(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Returns the height and width of a stored pixel in mm, see `read`; None if unknown."""
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
