"""Writes the X-rays of V7's dataset whose image and mask are under CC BY, for the config `lungs`.

    python -m tfds_builders.v7_covid_cxr.cc_by DOWNLOAD METADATA OUT [--only=LIST]

DOWNLOAD is the folder or zip that `configs/v7_lungs.py` takes. METADATA is `metadata.csv` of
github.com/ieee8023/covid-chestxray-dataset, which has the licence of each image of Cohen et al.
OUT gets `adults/` and `children/` with images and masks, and `list.csv` with patients, licences and
sources. LIST is a table like `docs/lungs_images.csv`; only its images are written.
"""

import argparse
import csv
import dataclasses
import logging
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from jaxlung.host import csv_text
from tfds_builders import raw_builder, raw_tree
from tfds_builders.v7_covid_cxr import layout, pixels, sources

LONGEST_SIDE = 512  # pixels; larger X-rays are scaled down
COLUMNS = ("image", "mask", "v7_number", "name", "patient", "licence", "source")
_CC_BY = re.compile(r"CC[- ]BY([- ]\d\.\d)?", re.IGNORECASE)  # and no NC, ND or SA
_ADULT_YEARS = 18


@dataclasses.dataclass(frozen=True)
class Origin:
    """Origin of an image.

    Attributes:
        licence: licence of the image, "CC BY 3.0".
        source: address of its publication.
    """

    licence: str
    source: str


KERMANY = Origin("CC BY 4.0", "https://data.mendeley.com/datasets/rscbjbr9sj/2")


def is_cc_by(licence: str) -> bool:
    """Returns True for a licence that asks for attribution alone, "CC BY" of any version."""
    return _CC_BY.fullmatch(licence.strip()) is not None


def write(
    download: pathlib.Path,
    metadata: pathlib.Path,
    out: pathlib.Path,
    only: pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes images, masks and their list.

    Args:
        download: see `sources.open_tree`.
        metadata: table with a column "filename" and a column "license".
        out: folder to make.
        only: table with a column "v7_number"; None for all images.

    Returns:
        Path of the list.

    Raises:
        ValueError: the download or a table can't be read, `out` is there, or no image is left.
    """
    if out.exists():
        raise ValueError(f"OUT: {out} exists; want a folder to make.")
    origins = read_origins(metadata)
    wanted = None if only is None else {row["v7_number"] for row in read_table(only, ["v7_number"])}
    tree = sources.open_tree(download)
    chosen = {}
    for sample in layout.find_samples(tree):
        origin = find_origin(sample, origins)
        number = sample.annotation.image_id
        if origin and is_cc_by(origin.licence) and (wanted is None or number in wanted):
            chosen[number] = (sample, origin)
    if not chosen:
        raise ValueError(f"{download}: no image is under CC BY by {metadata}, or is in {only}.")
    rows = list(_write_images(tree, chosen, out))
    (out / "list.csv").write_text(csv_text.to_text([COLUMNS, *rows]), encoding="utf-8")
    return out / "list.csv"


def read_origins(metadata: pathlib.Path) -> dict[str, Origin]:
    """Returns the origins of Cohen's images by their names without suffix.

    A name that has several licences gets none.
    """
    found: dict[str, Origin] = {}
    for row in read_table(metadata, ["filename", "license"]):
        stem = pathlib.PurePosixPath(row["filename"].strip()).stem
        origin = Origin(row["license"].strip(), row.get("url", "").strip())
        is_clear = stem not in found or found[stem].licence == origin.licence
        found[stem] = origin if is_clear else Origin("", "")
    return found


def find_origin(sample: layout.Sample, origins: Mapping[str, Origin]) -> Origin | None:
    """Returns the origin of an X-ray: Kermany's by its patient, Cohen's by its name."""
    if sample.patient_id.startswith("kermany_"):
        return KERMANY
    return next((origins[stem] for stem in _stems(sample) if stem in origins), None)


def read_table(path: pathlib.Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    """Reads a CSV in UTF-8 whose headings may have spaces around them.

    Raises:
        ValueError: the file can't be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, restval="")
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            rows = list(reader)
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path}: can't be read as CSV ({error}).") from error
    if missing := [name for name in wanted if name not in reader.fieldnames]:
        got = ", ".join(reader.fieldnames) or "nothing"
        raise ValueError(f"{path}: want a column {missing[0]!r}, got {got}.")
    return rows


def _stems(sample: layout.Sample) -> list[str]:
    return [pathlib.PurePosixPath(name).stem for name in (*_names(sample), sample.image)]


def _names(sample: layout.Sample) -> Sequence[str]:
    """Returns the names of an X-ray, the one at its source first."""
    return sample.annotation.file_names[::-1] or (sample.image,)


def _write_images(
    tree: raw_tree.RawTree,
    chosen: Mapping[str, tuple[layout.Sample, Origin]],
    out: pathlib.Path,
) -> Iterator[list[str]]:
    """Writes the chosen X-rays with their masks, and yields the list's rows."""

    def load(sample: layout.Sample) -> dict[str, object]:
        image_id = sample.annotation.image_id
        return {"image_id": image_id, **pixels.load(tree, sample, LONGEST_SIDE)}

    samples = [sample for sample, _ in chosen.values()]
    for number, example in raw_builder.load_in_order(samples, load, tree.where):
        sample, origin = chosen[number]
        group = "children" if _is_child(sample) else "adults"
        places = [f"{group}/{kind}/{number}.png" for kind in ("images", "masks")]
        for place, key in zip(places, ("image", "lung_mask"), strict=True):
            (out / place).parent.mkdir(parents=True, exist_ok=True)
            (out / place).write_bytes(example[key])
        name = _names(sample)[0]
        yield [*places, number, name, sample.patient_id, origin.licence, origin.source]


def _is_child(sample: layout.Sample) -> bool:
    return sample.patient_id.startswith("kermany_") or sample.facts.age_years < _ADULT_YEARS


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("download", type=pathlib.Path, help="V7's dataset, folder or zip")
    parser.add_argument("metadata", type=pathlib.Path, help="metadata.csv of Cohen et al.")
    parser.add_argument("out", type=pathlib.Path, help="folder to make")
    parser.add_argument("--only", type=pathlib.Path, help="table of the images to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.stdout.write(f"{write(args.download, args.metadata, args.out, args.only)}\n")
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
