"""Finds the files to predict on: a file, folder, pattern or list becomes items with names."""

import collections
import contextlib
import csv
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator

from absl import logging

from jaxlung.data.sources import folder_tree
from jaxlung.predict import dicom_picture, formats, quiet, walk
from jaxlung.volume import dicom_file

# Suffixes of images: a file with one of them that can't be read is reported, not ignored.
_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".nii", ".nii.gz"),
    *(".bmp", ".gif", ".webp", ".heic", ".jp2", ".mha", ".mhd", ".nrrd"),
)
_COLUMNS = ("path", "image")
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')  # the last: surrogates
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # reserved on Windows
_MOST_NAME_BYTES = 150  # of the 255 that most file systems allow; the rest is for endings
_DICOMDIR = "dicomdir"


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture or volume to predict on.

    Attributes:
        name: path below the input that the user named, with "/" and without suffix. Unique, also
            if case is ignored, and safe to append to an output folder on any system.
        kind: "picture", "volume", or "unknown" for a file that can't be read.
        path: a file, or the folder of a DICOM series.
    """

    name: str
    kind: str
    path: pathlib.Path


def find(pattern: str, leave_out: os.PathLike[str] | str | None = None) -> list[Item]:
    """Finds every item that a pattern names, in natural order ("2" before "10").

    A pattern is a file; a folder, searched with all folders in it; a glob, where ** stands for any
    number of folders; or a CSV with a column "path" or "image", relative to the CSV, whose order
    is kept. A name that exists is never taken for a glob. Files are recognised by their content.

    Two or more DICOM slices of one CT series in a folder make the folder one volume with all CT
    slices in it; reading it refuses a folder of two series. Slices that are each of another series
    are pictures. Files beside a series that no network takes, such as an RTSTRUCT or a scout, are
    left out (see `dicom.read_series`). A file named alone, or in a CSV, is always an item itself.

    In folders and globs links are followed, and each file is found once (`walk.below`). Hidden
    files, DICOMDIRs and files of unknown format are left out. But an unknown file with the suffix
    of an image becomes an item of kind "unknown", and so does a file named alone or in a CSV that
    is missing or can't be read. A name that differs from a file's only in the encoding of its
    accents finds that file.

    Args:
        pattern: INPUT as the user wrote it.
        leave_out: the output folder, ignored if it lies in the input.

    Raises:
        ValueError: the pattern is empty or finds nothing to read, the output folder is the input,
            or a CSV can't be read or lacks its column.
    """
    if not pattern.strip():
        raise ValueError(f"INPUT: want {formats.WANTED}, or a folder of them, got an empty path.")
    path = _as_stored(folder_tree.absolute(pattern))
    # Not path.is_dir(), which raises an OSError for a name that is too long.
    if os.path.isdir(path):
        base, found = path, _items_in(walk.below(path))
    elif os.path.isfile(path) and path.suffix.lower() == ".csv" and not formats.sniff(path):
        return _named(*_listed(path))
    elif os.path.lexists(path):
        return _named(path.parent, [_one(path)])
    else:
        base = walk.fixed_part(path)
        found = _items_in(walk.matching(path)) if base != path else []
    found = _without(found, base, leave_out)
    if not found:
        raise ValueError(f"{pattern}: want {formats.WANTED}, or a folder of them, found none.")
    return _named(base, sorted(found, key=lambda entry: _natural_key(entry[0])))


def _as_stored(path: pathlib.Path) -> pathlib.Path:
    """Returns the path; if it doesn't exist, the only one that reads the same (see `_read_out`)."""
    stored = pathlib.Path(path.anchor)
    for name in path.parts[1:]:
        stored /= _entry(stored, name)
    return stored


def _entry(folder: pathlib.Path, name: str) -> str:
    if name.isascii() or os.path.lexists(folder / name):
        return name
    alike = []
    with contextlib.suppress(OSError, ValueError):
        alike = [other for other in os.listdir(folder) if _read_out(other) == _read_out(name)]
    return alike[0] if len(alike) == 1 else name


def _read_out(name: str) -> str:
    """Returns a file's name as a person reads it: in NFC; bytes other than UTF-8 as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("latin-1")
    return unicodedata.normalize("NFC", name)


def _without(
    found: list[tuple[pathlib.Path, str]],
    base: pathlib.Path,
    leave_out: os.PathLike[str] | str | None,
) -> list[tuple[pathlib.Path, str]]:
    """Returns the entries that are not in the output folder.

    Raises:
        ValueError: the output folder is the input.
    """
    if leave_out is None:
        return found
    output, base = pathlib.Path(leave_out).resolve(), base.resolve()
    if output == base:
        raise ValueError(f"OUTPUT: {base} is the input; choose another folder.")
    if base.is_relative_to(output):
        return found
    # Resolved, because links may lead into the output folder from anywhere.
    return [entry for entry in found if not entry[0].resolve().is_relative_to(output)]


def _items_in(paths: Iterable[pathlib.Path]) -> list[tuple[pathlib.Path, str]]:
    """Returns the path and kind of each item: a file, or the folder of a series."""
    by_folder: dict[pathlib.Path, set[pathlib.Path]] = collections.defaultdict(set)
    for path in paths:
        if path.name.lower() != _DICOMDIR:
            by_folder[path.parent].add(path)
    found = []
    for folder, files in by_folder.items():
        formats_of = {path: formats.sniff(path) for path in files}
        slices, beside = _series([path for path in files if formats_of[path] == "DICOM"])
        found += [(folder, "volume")] if slices else []
        found += [(path, _kind(formats_of[path])) for path in files - slices - beside]
    passed = [path for path, kind in found if kind == "unknown" and not _has_suffix(path)]
    if passed:
        names = ", ".join(path.name for path in passed[:3])
        more = ", ..." if len(passed) > 3 else ""
        logging.info("left out %d files that are no images: %s%s", len(passed), names, more)
    left_out = set(passed)
    return [entry for entry in found if entry[0] not in left_out]


def _series(paths: list[pathlib.Path]) -> tuple[set[pathlib.Path], set[pathlib.Path]]:
    """Returns the CT slices among a folder's DICOM files, and the files to leave out with them.

    Both are empty unless two slices are of one series.
    """
    roles = {path: role for path in paths if (role := _role(path))}
    slices = {path for path, one in roles.items() if one.modality == dicom_file.CT}
    slices -= {path for path, one in roles.items() if one.beside}
    series = {roles[path].series for path in slices}
    if len(series) == len(slices):
        return set(), set()
    beside = {
        path
        for path, one in roles.items()
        if one.beside or (one.is_companion(series) and one.modality not in dicom_picture.MODALITIES)
    }
    # A slice with a damaged header belongs to the series, so that reading the series refuses it.
    damaged = {path for path, one in roles.items() if one.series in series} - beside
    return slices | damaged, beside


def _role(path: pathlib.Path) -> dicom_file.Role | None:
    """Returns the role of a DICOM file in a series; None if the file is damaged."""
    with quiet.region(), contextlib.suppress(OSError, ValueError):
        header = dicom_file.read(path, dicom_file.ROLE_TAGS, pixels=False)
        return dicom_file.role(path, header)
    return None


def _kind(format_name: str) -> str:
    if format_name in formats.PICTURES:
        return "picture"
    return "volume" if format_name else "unknown"


def _has_suffix(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(_SUFFIXES)


def _one(path: pathlib.Path) -> tuple[pathlib.Path, str]:
    return path, _kind(formats.sniff(path))


def _listed(path: pathlib.Path) -> tuple[pathlib.Path, list[tuple[pathlib.Path, str]]]:
    """Returns the folder that a CSV's items are named from, and each item once."""
    found: dict[pathlib.Path, str] = {}
    for row in _rows(path):
        entries = _items_in(walk.below(row)) if os.path.isdir(row) else [_one(row)]
        found.update(sorted(entries, key=lambda entry: _natural_key(entry[0])) or [_one(row)])
    if not found:
        raise ValueError(f"{path}: want a path in every row, got no rows.")
    inside = all(one.is_relative_to(path.parent) for one in found)
    base = path.parent if inside else pathlib.Path(os.path.commonpath([p.parent for p in found]))
    return base, list(found.items())


def _rows(path: pathlib.Path) -> Iterator[pathlib.Path]:
    try:
        # utf-8-sig, because spreadsheets write a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            headings = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: can't be read as CSV in UTF-8 ({error}).") from error
    heading = next((headings[name] for name in _COLUMNS if name in headings), None)
    if heading is None:
        got = ", ".join(map(repr, headings.values())) or "nothing"
        raise ValueError(f"{path}: want a column {' or '.join(map(repr, _COLUMNS))}, got {got}.")
    for line, row in rows:
        if not row[heading].strip():
            raise ValueError(f"{path}:{line}: {heading}: want a path, got an empty cell.")
        yield _as_stored(folder_tree.absolute(path.parent / row[heading].strip()))


def _natural_key(path: pathlib.Path) -> tuple:
    # After the split words and numbers alternate, so that numbers are compared with numbers.
    texts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    numbers = [[int(x) if i % 2 else x for i, x in enumerate(text)] for text in texts]
    return numbers, str(path)


def _named(base: pathlib.Path, found: Iterable[tuple[pathlib.Path, str]]) -> list[Item]:
    """Makes items with unique names; files that share a stem get their suffix into the name."""
    found = list(found)
    stems = [_safe_name(path, base) for path, _ in found]
    counts = collections.Counter(stem.casefold() for stem in stems)
    taken: set[str] = set()
    items = []
    for (path, kind), stem in zip(found, stems, strict=True):
        if counts[stem.casefold()] > 1 and _suffix(path):
            stem += _suffix(path).replace(".", "_")
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name.casefold())
        items.append(Item(name, kind, path))
    return items


def _suffix(path: pathlib.Path) -> str:
    """Returns the longest known suffix; other dots belong to the name, as in 1.2.840.113."""
    lower = path.name.lower()
    known = (suffix for suffix in _SUFFIXES if lower.endswith(suffix) and lower != suffix)
    return max(known, key=len, default="")


def _safe_name(path: pathlib.Path, base: pathlib.Path) -> str:
    inside = path.relative_to(base).parts or (path.name or "input",)
    last = inside[-1]
    if suffix := _suffix(path) if not os.path.isdir(path) else "":
        last = last[: -len(suffix)]
    return "/".join(_safe_part(part) for part in (*inside[:-1], last))


def _safe_part(part: str) -> str:
    """Returns a part of a path without characters that have a meaning to file systems."""
    text = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", part))
    text = text.encode()[:_MOST_NAME_BYTES].decode(errors="ignore").strip(" .") or "_"
    return f"{text}_" if _DEVICES.match(text) else text
