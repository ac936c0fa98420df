"""Pairs of image and mask listed in a CSV, with patients and splits if it names them."""

import csv
import dataclasses
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence

from absl import logging

from jaxlung.config import run_files
from jaxlung.data.sources import folder_tree

_OPTIONAL = ("patient", "split")  # columns that a CSV may lack
# Values of a split column, in lower case.
_SPLIT_NAMES = {name: name for name in run_files.SPLITS} | {"val": "validation"}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Headings of the CSV's columns.

    Attributes:
        image: heading over image paths, absolute or relative to the CSV's folder.
        mask: heading over mask paths, absolute or relative to the CSV's folder.
        patient: heading over patients, or "" for none. An empty cell makes the image a patient of
            its own.
        split: heading over splits (train, validation or val, test), or "" for none.
    """

    image: str
    mask: str
    patient: str
    split: str


def list_examples(
    path: pathlib.Path, columns: Columns, roots: folder_tree.Roots, patient_pattern: str
) -> list[folder_tree.Example]:
    """Returns a pair of files for each row; with roots, only for images inside one of them.

    Args:
        path: the CSV, with a line of headings, comma-separated, UTF-8.
        columns: headings of the CSV.
        roots: folders whose images are used; all images if there are no roots.
        patient_pattern: regular expression that finds the patient in the image's stem if there is
            no column of patients.

    Raises:
        FileNotFoundError: the CSV, an image or a mask is missing.
        ValueError: a heading is missing, a cell is empty, a split has another name, an image
            comes twice, or no row is left.
    """
    folder_tree.require_utf8(path)
    examples: dict[str, folder_tree.Example] = {}
    rows = [
        (place, row, _path_in(path, row, columns.image, place))
        for place, row in _rows(path, columns)
    ]
    ours = [row for row in rows if not roots.paths or roots.root_of(row[2])]
    if not columns.patient:
        folder_tree.require_quick(patient_pattern, [image_path for *_, image_path in ours])
    existing = _Finder()
    for place, row, image_path in ours:
        example = folder_tree.Example(
            image_path=existing.find(image_path, place),
            mask_path=existing.find(_path_in(path, row, columns.mask, place), place),
            image_id=roots.name_of(image_path),
            patient_id=_patient(row, columns, image_path, patient_pattern)
            or roots.name_of(image_path),
            group=roots.group_of(image_path),
            split=_split(row, columns, place),
        )
        if example.image_id in examples:
            raise ValueError(f"{place}: {image_path} is named a second time; want it once.")
        examples[example.image_id] = example
    if not examples:
        where = ", ".join(map(str, roots.paths)) or "it"
        raise ValueError(f"{path}: no row names an image in {where}.")
    return list(examples.values())


def _rows(path: pathlib.Path, columns: Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields each row with its place, "FILE:LINE", for messages; missing cells read as ""."""
    if not path.is_file():
        raise FileNotFoundError(f"csv {path}: no such file.")
    try:
        # utf-8-sig, because spreadsheets write a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            headings = reader.fieldnames or []
            rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: can't be read as CSV in UTF-8 ({error}).") from error
    for field, heading in dataclasses.asdict(columns).items():
        if heading not in headings and not (field in _OPTIONAL and heading == ""):
            raise ValueError(
                f"{path}: no column {heading!r} for csv_{field}_column, got "
                f"{' and '.join(map(repr, headings)) or 'nothing'}; want commas between columns."
            )
    _tell_unread(path, headings, columns)
    yield from rows


def _tell_unread(path: pathlib.Path, headings: Sequence[str], columns: Columns) -> None:
    """Warns of a column that is called a patient's or a split's, and isn't named as such."""
    for field in _OPTIONAL:
        alike = [heading for heading in headings if field in heading.lower()]
        if alike and not getattr(columns, field):
            logging.warning(
                "%s: the column %r isn't read; if it has each image's %s, add "
                "--config.data.csv_%s_column=%s",
                *(path, alike[0], field, field, alike[0]),
            )


def _path_in(path: pathlib.Path, row: dict[str, str], heading: str, place: str) -> pathlib.Path:
    if not row[heading].strip():
        raise ValueError(f"{place}: nothing in column {heading!r}; want a path.")
    return folder_tree.absolute(path.parent / row[heading].strip())


class _Finder:
    """A finder of files by name, whichever way a file system composes accented letters."""

    def __init__(self) -> None:
        self._listed: dict[pathlib.Path, dict[str, pathlib.Path]] = {}

    def find(self, path: pathlib.Path, place: str) -> pathlib.Path:
        found = self._spelt_as_stored(path)
        if not found.exists():
            raise FileNotFoundError(f"{place}: {path}: no such file.")
        if not found.is_file():
            raise ValueError(f"{place}: {path}: want a file, got a folder, a pipe or a device.")
        return found

    def _spelt_as_stored(self, path: pathlib.Path) -> pathlib.Path:
        if path.exists() or path.parent == path:
            return path
        folder = self._spelt_as_stored(path.parent)
        if folder not in self._listed:
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = {
                folder_tree.composed(pathlib.PurePath(entry.name)): entry for entry in inside
            }
        name = folder_tree.composed(pathlib.PurePath(path.name))
        return self._listed[folder].get(name, path)


def _patient(
    row: dict[str, str], columns: Columns, image_path: pathlib.Path, patient_pattern: str
) -> str:
    if columns.patient:
        return unicodedata.normalize("NFC", row[columns.patient].strip())
    return folder_tree.patient_of(image_path, patient_pattern)


def _split(row: dict[str, str], columns: Columns, place: str) -> str:
    if not columns.split:
        return ""
    name = row[columns.split].strip().lower()
    if name not in _SPLIT_NAMES:
        raise ValueError(
            f"{place}: want {', '.join(run_files.SPLITS)} or val in column "
            f"{columns.split!r}, got {row[columns.split]!r}."
        )
    return _SPLIT_NAMES[name]
