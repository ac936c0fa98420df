"""Writes masks of DICOM images as DICOM SEG, which archives and viewers overlay on them."""

import importlib
import importlib.metadata
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pydicom
from etils import epath

from jaxlung.data import record as record_lib
from jaxlung.host import files
from jaxlung.predict import pictures, quiet
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
    _check(path, masks, record.image.shape)
    file_grid = grid.Grid(record.shape, record.affine)
    # [slices, rows, columns, segments], each slice as its file stores it.
    frames = np.stack([grid.from_canonical(mask, file_grid).T for mask in masks.values()], -1)
    slices = dicom.slice_paths(series)  # In the order of `dicom.read_series`.
    _write(epath.Path(path), frames, list(masks), slices, series)


def write_picture(
    path: os.PathLike[str] | str,
    masks: Mapping[str, np.ndarray],
    picture: pictures.Picture,
    source: pathlib.Path,
) -> None:
    """Writes masks of an X-ray as one binary DICOM SEG of its file; see `write`.

    Args:
        path: the file to write, in an existing folder.
        masks: [H, W] bool by name, upright, of the picture's size.
        picture: the picture that `pictures.read` made of the file.
        source: the X-ray's DICOM file.

    Raises:
        ValueError: a mask has another shape or name, or the file's header lacks what a SEG must
            repeat; names the file.
        ImportError: `highdicom` is missing.
    """
    _check(path, masks, picture.image.shape)
    frames = np.stack([pictures.to_stored(mask, picture) for mask in masks.values()], -1)
    _write(epath.Path(path), frames[None], list(masks), [source], source)


def _write(
    path: epath.Path,
    frames: np.ndarray,
    names: Sequence[str],
    sources: Sequence[os.PathLike[str]],
    where: os.PathLike[str] | str,
) -> None:
    """Writes frames [source files, rows, columns, segments] bool."""
    import highdicom  # Only the extra "dicomseg" installs it.

    version = _version()
    try:
        with quiet.region():
            seg = highdicom.seg.Segmentation(
                source_images=[_header(source) for source in sources],
                pixel_array=frames.astype(np.uint8),
                segmentation_type="BINARY",
                segment_descriptions=_segments(names, version),
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
        raise ValueError(f"{where}: no DICOM SEG can be made of it ({reason}).") from error
    files.write_bytes(path, content.getvalue())


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
    path: os.PathLike[str] | str, masks: Mapping[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    if not masks:
        raise ValueError(f"{path}: want a mask or more, got none.")
    for name, mask in masks.items():
        if name not in _CODES or mask.dtype != bool or mask.shape != shape:
            raise ValueError(
                f"{path}: want bool masks of {shape} by {', '.join(_CODES)}, got "
                f"{mask.shape} {mask.dtype} for {name!r}."
            )


def _header(source: os.PathLike[str]) -> pydicom.Dataset:
    header = dicom_file.read(source, pixels=False)
    # For an image that has no place in space, highdicom writes a spacing without a thickness, and
    # then can't read it.
    if "ImagePositionPatient" not in header and "SliceThickness" not in header:
        header.pop("PixelSpacing", None)
    return header


def _segments(names: Sequence[str], version: str) -> list[Any]:
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
        for number, name in enumerate(names, 1)
    ]
