"""Writes masks of a DICOM series as RTSTRUCT, the contours that radiotherapy software reads.

pydicom and contourpy do it, as no library that is kept does it exactly: rt-utils 1.2.7, its last
release (January 2023), swaps the pixel spacings of rows and columns, cuts half a pixel off around
every mask and fails on holes; DicomRTTool is under the GPL and needs SimpleITK and OpenCV.
"""

import datetime
import io
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

import contourpy
import numpy as np
import pydicom
from etils import epath
from pydicom import uid

from jaxlung.data import record as record_lib
from jaxlung.host import files
from jaxlung.predict import quiet
from jaxlung.volume import dicom, dicom_file, grid

_COLOURS = {"lung": [0, 114, 178], "infection": [213, 94, 0]}
# Tags that an RTSTRUCT repeats of its series; those that are missing become empty.
_REPEATED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def write(
    path: os.PathLike[str] | str,
    masks: Mapping[str, np.ndarray],
    record: record_lib.VolumeRecord,
    series: os.PathLike[str] | str,
) -> None:
    """Writes masks as one RTSTRUCT of the series, whole or not at all.

    A contour runs halfway between the centres of pixels inside and outside. A hole is joined to its
    outer contour by a channel without width (PS3.3 C.8.8.6.3, "keyhole"). The file names the
    patient and the study as the series does, so it is as confidential.

    Args:
        path: the file to write, in an existing folder.
        masks: [D, H, W] bool in canonical order by name, "lung" or "infection"; each becomes an
            ROI.
        record: the record that `ct.read` made of the series.
        series: the folder of the series.

    Raises:
        ValueError: the series' headers lack what an RTSTRUCT must repeat; names the folder.
    """
    slices = dicom.slice_paths(series)
    file_grid = grid.Grid(record.shape, record.affine)
    with quiet.region():
        headers = [dicom_file.read(one, pixels=False) for one in slices]
        dataset = _structure_set(headers[0], series)
        dataset.ReferencedFrameOfReferenceSequence = [_reference(headers)]
        for number, (name, mask) in enumerate(masks.items(), 1):
            frames = grid.from_canonical(mask, file_grid).T  # Rows and columns of the files.
            _add(dataset, number, name, list(_contours(frames, headers)))
        content = io.BytesIO()
        dataset.save_as(content, enforce_file_format=True)
    files.write_bytes(epath.Path(path), content.getvalue())


def _structure_set(header: pydicom.Dataset, series: os.PathLike[str] | str) -> pydicom.Dataset:
    """Returns an RTSTRUCT without ROIs."""
    missing = [name for name in _REQUIRED if not header.get(name)]
    if missing:
        raise ValueError(f"{series}: no RTSTRUCT can be made of it (no {', '.join(missing)}).")
    # Contours may be longer than the 64 kB of a value in explicit VR.
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    now = datetime.datetime.now()
    dataset = _item(
        SOPClassUID=meta.MediaStorageSOPClassUID,
        SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
        Modality="RTSTRUCT",
        **{name: header.get(name, "") for name in _REPEATED},
        StudyInstanceUID=header.StudyInstanceUID,
        SeriesInstanceUID=uid.generate_uid(),
        SeriesNumber=1,
        FrameOfReferenceUID=header.FrameOfReferenceUID,
        PositionReferenceIndicator="",
        Manufacturer="jaxlung",
        StructureSetLabel="jaxlung",
        StructureSetDate=now.strftime("%Y%m%d"),
        StructureSetTime=now.strftime("%H%M%S"),
        StructureSetROISequence=[],
        ROIContourSequence=[],
        RTROIObservationsSequence=[],
    )
    if "SpecificCharacterSet" in header:  # Of the patient's name.
        dataset.SpecificCharacterSet = header.SpecificCharacterSet
    dataset.file_meta = meta
    return dataset


def _reference(headers: Sequence[pydicom.Dataset]) -> pydicom.Dataset:
    """Returns the item that names the frame of reference, study, series and slices."""
    first = headers[0]
    series = _item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[_image(header) for header in headers],
    )
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # detached study management, as others do
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _add(dataset: pydicom.Dataset, number: int, name: str, contours: list[pydicom.Dataset]) -> None:
    """Adds an ROI; one without contours is empty."""
    roi = _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=dataset.FrameOfReferenceUID,
        ROIName=name,
        ROIGenerationAlgorithm="AUTOMATIC",
    )
    shown = _item(ReferencedROINumber=number, ROIDisplayColor=_COLOURS[name])
    if contours:
        shown.ContourSequence = contours
    observation = _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType="ORGAN" if name == "lung" else "",
        ROIInterpreter="",
    )
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(shown)
    dataset.RTROIObservationsSequence.append(observation)


def _contours(frames: np.ndarray, headers: Sequence[pydicom.Dataset]) -> Iterator[pydicom.Dataset]:
    """Yields the contours of [slices, rows, columns] bool, in the patient's mm."""
    for frame, header in zip(frames, headers, strict=True):
        along_row, down_column = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
        row_mm, column_mm = map(float, header.PixelSpacing)
        to_mm = np.stack([along_row * column_mm, down_column * row_mm])
        corner = np.array(header.ImagePositionPatient, float)
        for points in _polygons(frame):
            world = corner + points @ to_mm
            yield _item(
                ContourImageSequence=[_image(header)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(world),
                ContourData=[f"{x:.4f}" for x in world.ravel()],
            )


def _polygons(frame: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the outlines of [rows, columns] bool, [N, 2] of column and row, without holes."""
    if not frame.any():
        return
    padded = np.pad(frame, 1).astype(np.float32)  # So that outlines close at the image's border.
    maker = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
    for points, offsets in zip(*maker.filled(0.5, 2.0), strict=True):
        outline, *holes = (points[a:b] for a, b in itertools.pairwise(offsets))
        for hole in holes:
            outline = _join(outline, hole)
        yield outline[:-1] - 1  # The last point is the first one.


def _join(outline: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Returns the outline with a way to the hole, around it and back; both begin as they end.

    The way leads from middle to middle of two edges, which rarely passes the centre of a pixel.
    """
    gates, doors = ((points[:-1] + points[1:]) / 2 for points in (outline, hole))
    apart = np.linalg.norm(gates[:, None] - doors[None], axis=-1)
    at, start = np.unravel_index(apart.argmin(), apart.shape)
    gate, door = gates[at : at + 1], doors[start : start + 1]
    around = np.roll(hole[:-1], -start - 1, axis=0)
    return np.concatenate([outline[: at + 1], gate, door, around, door, gate, outline[at + 1 :]])


def _image(header: pydicom.Dataset) -> pydicom.Dataset:
    return _item(
        ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID
    )


def _item(**tags: object) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item
