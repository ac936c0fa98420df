"""Who is in which split, written down."""

import csv
import io
from collections.abc import Mapping

from etils import epath

from jaxlung import files
from jaxlung.data import record

_COLUMNS = ("image_id", "patient_id", "split")


def require_same(path: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Raises ValueError if the splits are not those that `path` names.

    A run that went on with other images, or with test images that it had trained on, would be
    worth nothing.
    """
    before, now = set(_read_text(path).splitlines()), set(_to_csv(splits).splitlines())
    if before != now:
        example = sorted(before ^ now)[0]
        raise ValueError(
            f"{path}: the data have changed since this run began, in {len(before ^ now)} rows, "
            f"such as {example!r}. Bring them back, or choose another --workdir."
        )


def write(path: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Writes a CSV of image_id, patient_id and split; whole or not at all."""
    files.write_text(path, _to_csv(splits))


def read(path: epath.Path) -> dict[str, str]:
    """Returns image_id -> split, as `write` left it.

    Raises:
        ValueError: it is another table, or none.
    """
    rows = csv.DictReader(io.StringIO(_read_text(path)))
    try:
        return {row["image_id"]: row["split"] for row in rows}
    except (KeyError, csv.Error) as error:
        raise ValueError(f"{path}: want a table with {', '.join(_COLUMNS)} ({error}).") from error


def _read_text(path: epath.Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: want text, got something else ({error}).") from error


def _to_csv(splits: Mapping[str, record.Source]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for split, source in splits.items():
        writer.writerows((*people, split) for people in source.people())
    return text.getvalue()
