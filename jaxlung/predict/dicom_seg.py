"""Writes masks of a DICOM series as DICOM SEG, which archives and viewers overlay on the CT."""

import importlib
import importlib.metadata
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom
from etils import epath

from jaxlung.data import record as record_lib
from jaxlung.host import files
from jaxlung.predict import quiet
from jaxlung.volume import dicom, dicom_file, grid

# SNOMED CT codes of PS3.16: category and type of a segment.
_ANATOMY = ("123037004", "SCT", "Anatomical Structure")
_ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
_CODES = {
    "lung": (_ANATOMY, ("39607008", "SCT", "Lung")),
    "infection": (_ABNORMAL, ("233604007", "SCT", "Pneumonia")),
}


def write(
    path: os.PathLike[str] | str,
    masks: Mapping[str, np.ndarray],
    record: record_lib.VolumeRecord,
    series: os.PathLike[str] | str,
) -> None:
    """Writes masks as one binary DICOM SEG of the series, whole or not at all.

    The file names the patient and the study as the series does, so it is as confidential.
    Segments may overlap. Each slice that a segment appears on becomes a frame.

    Args:
        path: the file to write, in an existing folder.
        masks: [D, H, W] bool in canonical order by name, "lung" or "infection"; each becomes a
            segment.
        record: the record that `ct.read` made of the series.
        series: the folder of the series.

    Raises:
        ValueError: a mask has another shape or name, or the series' headers lack what a SEG must
            repeat; names the file or folder.
        ImportError: `highdicom` is missing; see `require_highdicom`.
    """
    import highdicom  # Only the extra "dicomseg" installs it.

    _check(path, masks, record)
    file_grid = grid.Grid(record.shape, record.affine)
    version = _version()
    # [slices, rows, columns, segments], each slice as its file stores it.
    frames = np.stack([grid.from_canonical(mask, file_grid).T for mask in masks.values()], -1)
    try:
        with quiet.region():
            seg = highdicom.seg.Segmentation(
                source_images=_sources(pathlib.Path(series)),
                pixel_array=frames.astype(np.uint8),
                segmentation_type="BINARY",
                segment_descriptions=_segments(masks, version),
                series_instance_uid=highdicom.UID(),
                series_number=1,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="jaxlung",
                manufacturer_model_name="jaxlung",
                software_versions=version,
                device_serial_number="0",
                omit_empty_frames=bool(frames.any()),
            )
            content = io.BytesIO()
            seg.save_as(content)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{series}: no DICOM SEG can be made of it ({reason}).") from error
    files.write_bytes(epath.Path(path), content.getvalue())


def require_highdicom() -> None:
    """Raises ValueError unless `highdicom` is installed."""
    try:
        importlib.import_module("highdicom")
    except ImportError as error:
        raise ValueError(
            f"--dicom_seg: needs highdicom ({error}): pip install 'jaxlung[dicomseg]'."
        ) from error


def _version() -> str:
    try:
        return importlib.metadata.version("jaxlung")
    except importlib.metadata.PackageNotFoundError:  # Run from a checkout, not installed.
        return "unknown"


def _check(
    path: os.PathLike[str] | str,
    masks: Mapping[str, np.ndarray],
    record: record_lib.VolumeRecord,
) -> None:
    if not masks:
        raise ValueError(f"{path}: want a mask or more, got none.")
    for name, mask in masks.items():
        if name not in _CODES or mask.dtype != bool or mask.shape != record.image.shape:
            raise ValueError(
                f"{path}: want bool masks of {record.image.shape} by {', '.join(_CODES)}, got "
                f"{mask.shape} {mask.dtype} for {name!r}."
            )


def _sources(series: pathlib.Path) -> list[pydicom.Dataset]:
    """Returns the headers of the slices in the order of `dicom.read_series`."""
    return [dicom_file.read(path, pixels=False) for path in dicom.slice_paths(series)]


def _segments(masks: Mapping[str, np.ndarray], version: str) -> list[Any]:
    import highdicom

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="jaxlung",
        version=version,
        family=highdicom.sr.CodedConcept("113086", "DCM", "Artificial Intelligence"),
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=highdicom.sr.CodedConcept(*_CODES[name][0]),
            segmented_property_type=highdicom.sr.CodedConcept(*_CODES[name][1]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(masks, 1)
    ]
