"""Reads Darwin's own JSON, one file for each image, in its versions 1.0 and 2.0.

Version 1.0 has `image.{width,height,filename,original_filename,url}` and `polygon.path` (or
`complex_polygon.path`, a list of paths). Version 2.0 has `item.{name,slots}` and `polygon.paths`.
"""

import pathlib
import re
from typing import Any

from tfds_builders.v7_covid_cxr import annotation

_IMAGE_NUMBER = re.compile(r"/images/(\d+)/")  # In the address of the original.


def is_darwin(content: Any) -> bool:
    """Tells whether JSON has this format."""
    return isinstance(content, dict) and ("image" in content or "item" in content)


def parse(content: dict[str, Any], where: str, name: str) -> annotation.Annotation:
    """Returns the annotation of one image from its file.

    Args:
        content: JSON of the file.
        where: name of the download, for messages.
        name: name of the file in the download.

    Raises:
        ValueError: another format, an outline of an unknown class, or coordinates that are not
            numbers; names the file.
    """
    try:
        return _parse(content, name)
    except KeyError as error:
        raise ValueError(f"{where}: {name} is not Darwin JSON (no {error}).") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{where}: {name} is not Darwin JSON ({error}).") from error
    except ValueError as error:
        raise ValueError(f"{where}: {name}: {error}.") from error


def image_number(address: str | None) -> str | None:
    """Returns Darwin's number of an image, from the address of its original; None if unknown."""
    match = _IMAGE_NUMBER.search(address or "")
    return match and match[1]


def _parse(content: dict[str, Any], name: str) -> annotation.Annotation:
    tags, lungs = [], []
    for item in content["annotations"]:
        if "tag" in item:
            tags.append(item["name"])
            continue
        annotation.require_known_class(item["name"])
        if item["name"] == annotation.LUNG and (shape := annotation.make_shape(_rings(item))):
            lungs.append(shape)
    stem = pathlib.PurePosixPath(name).name.split(".json")[0]
    image = _image_2_0(content["item"]) if "item" in content else content["image"]
    file_names = [image["filename"], image.get("original_filename")]
    return annotation.Annotation(
        image_id=image_number(image.get("url")) or stem,
        name=name,
        file_names=tuple(dict.fromkeys(filter(None, file_names))),
        size=annotation.make_size(image["width"], image["height"]),
        tags=tuple(tags),
        lungs=tuple(lungs),
    )


def _image_2_0(item: dict[str, Any]) -> dict[str, Any]:
    """Returns the description of an image in version 2.0 with the field names of 1.0."""
    slot = item["slots"][0]
    source = (slot.get("source_files") or [{}])[0]
    return {
        "filename": item["name"],
        "original_filename": source.get("file_name"),
        "url": source.get("url"),
        "width": slot["width"],
        "height": slot["height"],
    }


def _rings(item: dict[str, Any]) -> list[list[tuple[float, float]]]:
    """Returns the rings of an outline: `path` is one ring or, if complex, several, as `paths`."""
    polygon = item.get("polygon") or item["complex_polygon"]
    rings = polygon.get("paths") or polygon["path"]
    if rings and isinstance(rings[0], dict):
        rings = [rings]
    return [[(point["x"], point["y"]) for point in ring] for ring in rings]
