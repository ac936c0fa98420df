"""The CSV that records each image's patient and split."""

from collections.abc import Mapping

from etils import epath

from jaxlung.data import record
from jaxlung.host import csv_text, files

COLUMNS = ("image_id", "patient_id", "split")


def require_same(path: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Raises ValueError if the splits are not those in the CSV at `path`.

    A run that is resumed with other images, or tested on images that it was trained on, has
    meaningless scores.
    """
    before, now = set(map(tuple, _parse(path))), set(_rows(splits))
    if before != now:
        example = sorted(before ^ now)[0]
        raise ValueError(
            f"{path}: the data have changed since this run began, in {len(before ^ now)} rows, "
            f"such as {', '.join(example)!r}. Bring them back, or choose another --workdir."
        )


def write(path: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Writes a CSV of image_id, patient_id and split; whole or not at all."""
    files.write_text(path, csv_text.to_text(_rows(splits)))


def read(path: epath.Path) -> dict[str, str]:
    """Returns image_id -> split from a CSV that `write` made."""
    return {image_id: split for image_id, _, split in _parse(path)[1:]}


def _rows(splits: Mapping[str, record.Source]) -> list[tuple[str, ...]]:
    rows = [(*people, split) for split, source in splits.items() for people in source.people()]
    return [COLUMNS, *rows]


def _parse(path: epath.Path) -> list[list[str]]:
    """Returns all rows of the CSV, the header first.

    Raises:
        ValueError: the file is not a CSV that `write` made.
    """
    try:
        rows = csv_text.parse(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: want a CSV table, got something else ({error}).") from error
    if not rows or rows[0] != [*COLUMNS] or any(len(row) != len(COLUMNS) for row in rows):
        raise ValueError(f"{path}: want rows of {', '.join(COLUMNS)}.")
    return rows
