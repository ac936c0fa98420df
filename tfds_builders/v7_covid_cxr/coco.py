"""Reads COCO JSON, one file for all images, as Darwin exports it (with tags)."""

import collections
import pathlib
from typing import Any

from tfds_builders.v7_covid_cxr import annotation, darwin


def is_coco(content: Any) -> bool:
    """Tells whether JSON has this format."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def parse(content: dict[str, Any], where: str, name: str) -> list[annotation.Annotation]:
    """Returns the annotations of all images in a file.

    Args:
        content: JSON of the file.
        where: name of the download, for messages.
        name: name of the file in the download.

    Raises:
        ValueError: another format, an object of an unknown class, or a lung that is not given as
            polygons; names the file.
    """
    try:
        lungs = _lungs_by_image(content)
        tags = {tag["id"]: tag["name"] for tag in content.get("tag_categories", [])}
        return [_make(image, name, lungs, tags) for image in content["images"]]
    except KeyError as error:
        raise ValueError(f"{where}: {name} is not COCO JSON (no {error}).") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{where}: {name} is not COCO JSON ({error}).") from error
    except ValueError as error:
        raise ValueError(f"{where}: {name}: {error}.") from error


def _lungs_by_image(content: dict[str, Any]) -> dict[Any, list[annotation.Shape]]:
    classes = {category["id"]: category["name"] for category in content["categories"]}
    lungs: dict[Any, list[annotation.Shape]] = collections.defaultdict(list)
    for item in content["annotations"]:
        class_name = classes[item["category_id"]]
        annotation.require_known_class(class_name)
        if class_name == annotation.LUNG:
            lungs[item["image_id"]] += _shapes(item)
    return lungs


def _shapes(item: dict[str, Any]) -> list[annotation.Shape]:
    """Returns a shape for each polygon, as COCO has no holes and joins an object's polygons."""
    if not isinstance(item["segmentation"], list):
        raise ValueError(f"want polygons, got another segmentation in annotation {item['id']}")
    polygons = [list(zip(flat[::2], flat[1::2], strict=True)) for flat in item["segmentation"]]
    return [shape for polygon in polygons if (shape := annotation.make_shape([polygon]))]


def _make(
    image: dict[str, Any],
    name: str,
    lungs: dict[Any, list[annotation.Shape]],
    tags: dict[Any, str],
) -> annotation.Annotation:
    stem = pathlib.PurePosixPath(image["file_name"]).stem
    return annotation.Annotation(
        image_id=darwin.image_number(image.get("darwin_url")) or stem,
        name=name,
        file_names=(image["file_name"],),
        size=annotation.make_size(image["width"], image["height"]),
        tags=tuple(tags[tag_id] for tag_id in image.get("tag_ids", [])),
        lungs=tuple(lungs.get(image["id"], ())),
    )
