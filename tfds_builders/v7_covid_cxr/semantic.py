"""Reads PNG masks named by the image's number, `all-images-semantic-masks/1676192.png`.

They have no tags. `class_mapping.csv` lists grey levels: 0 background, 127 Ignore (which covers
lung), 255 Lung.
"""

import concurrent.futures
import csv
import functools
import pathlib

from tfds_builders import png, raw_tree
from tfds_builders.v7_covid_cxr import annotation

MAPPING = "class_mapping.csv"
_DEFAULT_LEVELS = {"__background__": 0, annotation.IGNORE: 127, annotation.LUNG: 255}


def parse(tree: raw_tree.RawTree, masks: list[str]) -> list[annotation.Annotation]:
    """Reads all masks of a folder, to find those with lungs.

    Args:
        tree: the download.
        masks: names of the masks in the tree.

    Raises:
        ValueError: a mask that can't be decoded or has an unknown grey level, or a damaged
            class_mapping.csv; names the file.
    """
    mapping = str(pathlib.PurePosixPath(masks[0]).with_name(MAPPING))
    levels = _levels(tree, mapping) if mapping in tree.names else _DEFAULT_LEVELS
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(functools.partial(_parse_mask, tree, levels), masks))


def _levels(tree: raw_tree.RawTree, name: str) -> dict[str, int]:
    """Reads the grey level of each class."""
    lines = tree.read(name).decode("utf-8-sig", errors="replace").splitlines()
    try:
        rows = csv.DictReader(lines)
        levels = {row["class_name"]: int(row["class_idx"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{tree.where}: {name}: want class_idx and class_name ({error})."
        ) from error
    if annotation.LUNG not in levels or levels.keys() - _DEFAULT_LEVELS:
        wanted = ", ".join(_DEFAULT_LEVELS)
        raise ValueError(f"{tree.where}: {name}: want classes {wanted}, got {', '.join(levels)}.")
    return levels


def _parse_mask(tree: raw_tree.RawTree, levels: dict[str, int], name: str) -> annotation.Annotation:
    mask = png.decode(tree, name)
    found = {level for level, count in enumerate(mask.histogram()) if count}
    if unknown := sorted(found - set(levels.values())):
        wanted = ", ".join(map(str, sorted(levels.values())))
        raise ValueError(f"{tree.where}: {name}: want grey levels {wanted}, got {unknown[0]}.")
    lung_level = levels[annotation.LUNG]
    return annotation.Annotation(
        image_id=pathlib.PurePosixPath(name).stem,
        name=name,
        file_names=(),
        size=mask.size,
        mask=name if lung_level in found else None,
        lung_level=lung_level,
    )
