"""A made-up CT as DICOM slices, for tests."""

import itertools

import numpy as np
import pydicom
from pydicom import uid

ROWS, COLUMNS, SLICES = 4, 5, 3
BETWEEN_ROWS_MM, BETWEEN_COLUMNS_MM, STEP_MM = 0.75, 0.625, 2.5
CORNER = np.array([-120.5, -90.25, -400.0])  # LPS mm of the first pixel
C, S = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
ORIENTATIONS = dict(  # unit vectors along a row and down a column, LPS
    axial=((1, 0, 0), (0, 1, 0)),
    prone=((-1, 0, 0), (0, -1, 0)),
    upside_down=((1, 0, 0), (0, -1, 0)),
    coronal=((1, 0, 0), (0, 0, -1)),
    sagittal=((0, 1, 0), (0, 0, -1)),
    turned=((C, S, 0), (-S, C, 0)),
    oblique=((C, S * C, S * S), (-S, C * C, S * C)),
)


def world_of(k, orientation, step):
    """[ROWS, COLUMNS, 3] LPS mm of a slice's pixels, as PS3.3 C.7.6.2.1.1 has it."""
    along_row, down_column = np.array(orientation, float)
    pixels = itertools.product(range(ROWS), range(COLUMNS))
    points = [
        CORNER
        + k * np.array(step)
        + column * BETWEEN_COLUMNS_MM * along_row
        + row * BETWEEN_ROWS_MM * down_column
        for row, column in pixels
    ]
    return np.reshape(points, (ROWS, COLUMNS, 3))


def decimal(numbers):
    return [pydicom.valuerep.DSfloat(float(x), auto_format=True) for x in np.ravel(numbers)]


def make_slice(k=0, orientation=ORIENTATIONS["axial"], step=(0, 0, STEP_MM), dtype=np.int16):
    """Slice k: its pixels count 0, 1, 2... through the whole series."""
    pixels = (np.arange(ROWS * COLUMNS) + k * ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{k + 1}"
    dataset.Modality, dataset.SeriesInstanceUID = "CT", "1.2.3"
    dataset.InstanceNumber = (7 * k + 3) % 10  # of no use
    dataset.ImagePositionPatient = decimal(world_of(k, orientation, step)[0, 0])
    dataset.ImageOrientationPatient = decimal(orientation)
    dataset.PixelSpacing = decimal((BETWEEN_ROWS_MM, BETWEEN_COLUMNS_MM))
    dataset.SliceThickness = "9"  # of no use
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    set_pixels(dataset, pixels.astype(dtype))
    return dataset


def set_pixels(dataset, pixels):
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()


def save(folder, datasets, names=None):
    """Writes the files under names that say nothing about the order."""
    folder.mkdir(exist_ok=True)
    names = names or [f"{(5 * i + 3) % 7}" for i in range(len(datasets))]
    for name, dataset in zip(names, datasets, strict=True):
        dataset.save_as(folder / name, enforce_file_format=True)
    return folder


def series(**kwargs):
    return [make_slice(k, **kwargs) for k in range(SLICES)]
