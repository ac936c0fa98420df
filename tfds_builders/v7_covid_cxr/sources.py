"""Finds the annotations, their format, and the images of a download.

Darwin downloads `images/` and `releases/all-images/annotations/<name>.json`. GitHub has zips of
JSON, COCO and PNG masks, but no images. A download may mix both, packed or unpacked.
"""

import collections
import pathlib
import re

from absl import logging

from jaxlung.host import progress
from tfds_builders import raw_tree
from tfds_builders.v7_covid_cxr import annotation, coco, darwin, semantic, tags

WANTED = "V7's annotations (Darwin or COCO JSON, or semantic PNG masks) and images"
IMAGES_FROM = (
    "get the images with 'darwin dataset pull v7-labs/covid-19-chest-x-ray-dataset:all-images' "
    "(pip install darwin-py; free account at darwin.v7labs.com), or those of "
    "github.com/ieee8023/covid-chestxray-dataset and data.mendeley.com/datasets/rscbjbr9sj/2"
)

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_JSON_SUFFIXES = (".json", ".json.gz")
_MASKS = re.compile(r"semantic|^(lung[ _])?masks?$", re.IGNORECASE)
_NO_IMAGES = re.compile(r"semantic|instance|masks?|thumbnail", re.IGNORECASE)

Annotations = list[annotation.Annotation]


def open_tree(place: str | pathlib.Path) -> raw_tree.RawTree:
    """Opens a zip, or a folder in which zips count as folders: `all-images.zip/1676192.json`.

    Raises:
        ValueError: there is no such place, or nothing of this dataset, or a damaged zip.
    """
    return raw_tree.find_with_zips(place, _has_annotations, WANTED, f"; {IMAGES_FROM}")


def image_names(tree: raw_tree.RawTree) -> list[str]:
    """Returns the JPEG and PNG files outside folders of masks or thumbnails."""
    mapped = _mapped_folders(tree)
    return [
        name
        for name in tree.visible(_IMAGE_SUFFIXES)
        if not _NO_IMAGES.search(_folder(name)) and _folder(name) not in mapped
    ]


def read_annotations(tree: raw_tree.RawTree) -> Annotations:
    """Reads the largest set of the best format: Darwin's JSON, COCO, or PNG masks.

    Raises:
        ValueError: there are no annotations, or a file is damaged; names the file.
    """
    sets = _read_json_sets(tree)
    kind = next((kind for kind, found in sets.items() if found), "PNG masks")
    found = sets.get(kind) or _read_mask_sets(tree)
    if not found:
        raise ValueError(f"{tree.where}: want {WANTED}, found other JSON files only.")
    sizes = {place: len(items) for place, items in found.items()}
    place = max(sizes, key=sizes.__getitem__)
    logging.info("%s: annotations are %s, %d in %s", tree.where, kind, sizes.pop(place), place)
    if sizes:
        logging.info("%s: not read, because they are smaller sets: %s", tree.where, sizes)
    if kind == "PNG masks":
        logging.warning(
            "%s: PNG masks have no tags, so every image is labelled %r whatever its diagnosis, and "
            "patients are unknown unless file names tell them: splits are by image; V7's "
            "annotations/all-images.zip has the tags.",
            tree.where,
            tags.LABELS[0],
        )
    return found[place]


def _read_json_sets(tree: raw_tree.RawTree) -> dict[str, dict[str, Annotations]]:
    """Reads annotations by format, then by place; ignores other JSON files."""
    darwin_sets: dict[str, Annotations] = collections.defaultdict(list)
    coco_sets: dict[str, Annotations] = {}
    names = tree.visible(_JSON_SUFFIXES)
    what = f"reading annotations of {tree.where}"
    for name in progress.report(names, what, "files", len(names)):
        content = annotation.read_json(tree, name)
        if coco.is_coco(content):
            coco_sets[name] = coco.parse(content, tree.where, name)
        elif darwin.is_darwin(content):
            place = _folder(name) or tree.where
            darwin_sets[place].append(darwin.parse(content, tree.where, name))
    return {"Darwin JSON": darwin_sets, "COCO JSON": coco_sets}


def _read_mask_sets(tree: raw_tree.RawTree) -> dict[str, Annotations]:
    folders: dict[str, list[str]] = collections.defaultdict(list)
    for name in _mask_names(tree):
        folders[_folder(name)].append(name)
    return {folder: semantic.parse(tree, names) for folder, names in folders.items()}


def _mask_names(tree: raw_tree.RawTree) -> list[str]:
    mapped = _mapped_folders(tree)
    return [
        name
        for name in tree.visible((".png",))
        if _folder(name) in mapped or _MASKS.search(_folder(name).rpartition("/")[2])
    ]


def _has_annotations(tree: raw_tree.RawTree) -> bool:
    return bool(tree.visible(_JSON_SUFFIXES) or _mask_names(tree))


def _mapped_folders(tree: raw_tree.RawTree) -> set[str]:
    return {_folder(name) for name in tree.names if name.endswith(f"/{semantic.MAPPING}")}


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
