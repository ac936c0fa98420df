"""Finds the slices of the one CT series among the files of a folder."""

import collections
import os
import re
from collections.abc import Iterable, Sequence

import pydicom
from absl import logging
from etils import epath

from jaxlung.host import files
from jaxlung.volume import dicom_file


def slice_headers(folder: epath.Path, tags: Sequence[str]) -> dict[epath.Path, pydicom.Dataset]:
    """Returns the headers of a CT series' slices by their paths.

    `dicom.read_series` says which files are ignored, left out and refused.

    Args:
        folder: the folder of the series.
        tags: names of the tags to read, `dicom_file.ROLE_TAGS` among them.

    Raises:
        ValueError: the folder or a file is refused; names it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: want a folder of DICOM files, got none there.")
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    # os.path.isfile, because epath.Path.is_file is True for a pipe.
    found = files.each_once(path for path in entries if os.path.isfile(path))
    paths = [path for path in found if _is_dicom(path)]
    directory = pydicom.uid.MediaStorageDirectoryStorage
    headers: dict[epath.Path, pydicom.Dataset] = {}
    for path in paths:
        header = dicom_file.read(path, tags, pixels=False)
        if dicom_file.value(path, header.file_meta, "MediaStorageSOPClassUID") != directory:
            headers[path] = header
    if not headers:
        inner = ", ".join(path.name for path in entries if path.is_dir())
        hint = f"; look in its folders {inner}" if inner else ""
        raise ValueError(f"{folder}: no DICOM file among its {len(found)} files{hint}.")
    slices = _without_companions(folder, headers)
    _require_named_otherwise([path for path in found if path not in paths], slices)
    return slices


def _is_dicom(path: epath.Path) -> bool:
    with path.open("rb") as file:
        if dicom_file.is_dicom(file.read(dicom_file.HEAD_BYTES)):
            return True
    if path.name.lower().endswith(".dcm"):  # Ignoring it might lose a slice.
        raise ValueError(f"{path}: want a DICOM file, got one that does not start as such.")
    return False


def _require_named_otherwise(others: Iterable[epath.Path], slices: Iterable[epath.Path]) -> None:
    """Raises ValueError for a file that isn't DICOM but is named like a slice: a damaged slice.

    Names that differ only in their numbers are alike.
    """
    names = {_name_without_numbers(path): path.name for path in slices}
    for path in others:
        if like := names.get(_name_without_numbers(path)):
            raise ValueError(
                f"{path}: want a DICOM file, as it is named like {like}, got one that does not "
                "start as such."
            )


def _name_without_numbers(path: epath.Path) -> str:
    return re.sub(r"\d+", "0", path.name)


def _without_companions(
    folder: epath.Path, headers: dict[epath.Path, pydicom.Dataset]
) -> dict[epath.Path, pydicom.Dataset]:
    """Returns the headers of the slices; logs a warning about the files left out."""
    roles = {path: dicom_file.role(path, header) for path, header in headers.items()}
    slices = {
        path: one for path, one in roles.items() if one.modality == dicom_file.CT and not one.beside
    }
    series = {one.series for one in slices.values()}
    kept = {path: one for path, one in roles.items() if not (slices and one.is_companion(series))}
    _require_one_series(folder, kept)
    left_out = [f"{path.name} ({roles[path].modality})" for path in roles if path not in kept]
    if left_out:
        named = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        logging.warning("%s: left out files that are no slices of the CT: %s", folder, named)
    return {path: headers[path] for path in kept}


def _require_one_series(folder: epath.Path, roles: dict[epath.Path, dicom_file.Role]) -> None:
    counts = collections.Counter(
        (one.modality or dicom_file.CT, one.series or "without a SeriesInstanceUID")
        for one in roles.values()
    )
    found = ", ".join(
        f"{modality} {series} ({count} {'file' if count == 1 else 'files'})"
        for (modality, series), count in counts.items()
    )
    if len(counts) > 1:
        raise ValueError(
            f"{folder}: want one series, got {len(counts)}: {found}; move each series into a "
            "folder of its own and name the one you want."
        )
    if next(iter(counts))[0] != dicom_file.CT:
        raise ValueError(f"{folder}: want a series of modality {dicom_file.CT}, got {found}.")
