"""Who is in which split, written down."""

import csv
import io
from collections.abc import Mapping

from etils import epath

from jaxlung import files
from jaxlung.data import record


def write(path: epath.Path, splits: Mapping[str, record.Source]) -> None:
    """Writes a CSV of image_id, patient_id and split; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "patient_id", "split"))
    for split, source in splits.items():
        writer.writerows((*people, split) for people in source.people())
    files.write_text(path, text.getvalue())
