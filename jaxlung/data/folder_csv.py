"""Pairs of image and mask from a CSV, with patients and splits where it names them."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator

from jaxlung.data import folder_tree, patient_split

# What a split column may hold, in any case.
_SPLIT_NAMES = {name: name for name in patient_split.SPLITS} | {"val": "validation"}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Headings of the CSV.

    Attributes:
        image: path of the image, absolute or relative to the CSV's folder.
        mask: path of the mask, likewise.
        patient: the person, or "" if there is no such column; an empty cell makes the image a
            patient of its own.
        split: train, validation (or val) or test, or "" if there is no such column.
    """

    image: str
    mask: str
    patient: str
    split: str


def list_examples(
    path: pathlib.Path, columns: Columns, roots: folder_tree.Roots, patient_pattern: str
) -> list[folder_tree.Example]:
    """Every row as a pair of files; with roots, only rows whose image lies in one of them.

    Args:
        path: the CSV, with a line of headings, comma-separated, UTF-8.
        columns: its headings.
        roots: where images count; all do if there are no roots.
        patient_pattern: finds the patient in the image's stem where there is no column for it.

    Raises:
        FileNotFoundError: the CSV, an image or a mask is missing.
        ValueError: a heading is missing, a cell is empty, a split has another name, an image
            comes twice, or no row is left.
    """
    examples: dict[str, folder_tree.Example] = {}
    for place, row in _rows(path, columns):
        image_path = _path_in(path, row, columns.image, place)
        if roots.paths and roots.root_of(image_path) is None:
            continue
        example = folder_tree.Example(
            image_path=_existing(image_path, place),
            mask_path=_existing(_path_in(path, row, columns.mask, place), place),
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
    """Each row with where it stands, for messages; cells that are missing read as ""."""
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
        optional = field in ("patient", "split")
        if heading not in headings and not (optional and heading == ""):
            raise ValueError(
                f"{path}: no column {heading!r} for csv_{field}_column, got "
                f"{' and '.join(map(repr, headings)) or 'nothing'}; want commas between columns."
            )
    yield from rows


def _path_in(path: pathlib.Path, row: dict[str, str], heading: str, place: str) -> pathlib.Path:
    if not row[heading].strip():
        raise ValueError(f"{place}: nothing in column {heading!r}; want a path.")
    return folder_tree.absolute(path.parent / row[heading].strip())


def _existing(path: pathlib.Path, place: str) -> pathlib.Path:
    if not path.is_file():
        raise FileNotFoundError(f"{place}: {path}: no such file.")
    return path


def _patient(
    row: dict[str, str], columns: Columns, image_path: pathlib.Path, patient_pattern: str
) -> str:
    if columns.patient:
        return row[columns.patient].strip()
    return folder_tree.patient_of(image_path, patient_pattern)


def _split(row: dict[str, str], columns: Columns, place: str) -> str:
    if not columns.split:
        return ""
    name = row[columns.split].strip().lower()
    if name not in _SPLIT_NAMES:
        raise ValueError(
            f"{place}: want {', '.join(patient_split.SPLITS)} or val in column "
            f"{columns.split!r}, got {row[columns.split]!r}."
        )
    return _SPLIT_NAMES[name]
