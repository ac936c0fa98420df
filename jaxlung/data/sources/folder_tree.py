"""Pairs of image and mask from folders `images/` and `masks/`, matched by stem."""

import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Sequence

from absl import logging

from jaxlung.host import patterns
from jaxlung.image import image_file


@dataclasses.dataclass(frozen=True)
class Example:
    """The files of one image and its mask.

    Attributes:
        image_path: a PNG or JPEG.
        mask_path: a PNG or JPEG of the same size.
        image_id: path of the image below `Roots.base`, with "/".
        patient_id: name of the person; `image_id` if unknown.
        group: name of the image's root if there are several roots, or "".
        split: split that a CSV gives, or "" if it is still to be drawn.
    """

    image_path: pathlib.Path
    mask_path: pathlib.Path
    image_id: str
    patient_id: str
    group: str
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Roots:
    """The folders that a user named.

    Attributes:
        paths: absolute paths; () if only a CSV is named.
        base: folder that ids are relative to: the only root, or the common parent of several.
    """

    paths: tuple[pathlib.Path, ...]
    base: pathlib.Path

    def name_of(self, path: pathlib.Path) -> str:
        """Returns the file's id: its path below `base`, or the whole path if it is elsewhere."""
        inside = path.is_relative_to(self.base)
        return composed(path.relative_to(self.base) if inside else path)

    def root_of(self, path: pathlib.Path) -> pathlib.Path | None:
        """Returns the innermost root that holds `path`, or None."""
        holders = [root for root in self.paths if path.is_relative_to(root)]
        return max(holders, key=lambda root: len(root.parts), default=None)

    def group_of(self, path: pathlib.Path) -> str:
        """Returns the name of the root that holds `path`, or "" if there is only one root."""
        root = self.root_of(path)
        return composed(root.relative_to(self.base)) if root and len(self.paths) > 1 else ""


def parse_roots(root: str, default_base: pathlib.Path) -> Roots:
    """Parses folders separated by commas; checks that each exists and is named once.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: one of them is named twice.
    """
    names = [name.strip() for name in root.split(",") if name.strip()]
    paths = tuple(absolute(name) for name in names)
    for path in paths:
        require_utf8(path)
        if not path.is_dir():
            raise FileNotFoundError(f"root {path}: no such folder.")
        if paths.count(path) > 1:
            raise ValueError(f"root {path}: named twice in {root!r}.")
    base = pathlib.Path(os.path.commonpath(paths)) if paths else default_base
    return Roots(paths, base)


def absolute(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns `path` with `~` and `..` resolved; links stay, so that ids read as written."""
    return pathlib.Path(os.path.abspath(os.path.expanduser(path)))


def composed(path: pathlib.PurePath) -> str:
    """Returns the path with "/" and in Unicode NFC, as file systems compose accents differently."""
    return unicodedata.normalize("NFC", path.as_posix())


def require_utf8(path: pathlib.Path) -> None:
    """Raises ValueError for a name that is not UTF-8 and so can't be written to a CSV."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{os.fsencode(path)!r}: want a name in UTF-8; rename it.") from error


def list_examples(roots: Roots, *, mask_suffix: str, patient_pattern: str) -> list[Example]:
    """Returns every image of every root with the mask of the same name.

    Args:
        roots: folders that hold `images/` and `masks/`.
        mask_suffix: text that a mask's stem has after the image's stem ("_mask"), or "".
        patient_pattern: regular expression, searched for in the stem, whose first group is the
            patient; "" makes every image a patient of its own.

    Raises:
        FileNotFoundError: `images/` or `masks/` is missing.
        ValueError: no images, two files with one stem, an image without its mask or a mask without
            its image, or a bad pattern.
    """
    pairs = [pair for root in roots.paths for pair in _pairs(root, mask_suffix)]
    require_quick(patient_pattern, [image_path for image_path, _ in pairs])
    examples = []
    for image_path, mask_path in pairs:
        image_id = roots.name_of(image_path)
        patient_id = patient_of(image_path, patient_pattern) or image_id
        group = roots.group_of(image_path)
        examples.append(Example(image_path, mask_path, image_id, patient_id, group))
    return examples


def require_quick(patient_pattern: str, paths: Sequence[pathlib.Path]) -> None:
    """Raises ValueError for a pattern that is invalid, or takes too long on the paths' stems."""
    if patient_pattern:
        stems = [_stem(path) for path in paths]
        patterns.require_quick(patient_pattern, stems, "patient_pattern", "search")


def patient_of(path: pathlib.Path, patient_pattern: str) -> str:
    """Returns the first group of the pattern in the file's stem; "" for an empty pattern.

    Raises:
        ValueError: the pattern has no group, or does not match.
    """
    if not patient_pattern:
        return ""
    pattern = re.compile(patient_pattern)
    if not pattern.groups:
        raise ValueError(f"patient_pattern '{patient_pattern}': want a group, as in '^(\\d+)_'.")
    match = pattern.search(_stem(path))
    if not (match and match.group(1)):
        raise ValueError(f"{path}: patient_pattern '{patient_pattern}' finds no patient in it.")
    return match.group(1)


def _stem(path: pathlib.Path) -> str:
    return composed(pathlib.PurePath(path.stem))


def _pairs(root: pathlib.Path, mask_suffix: str) -> list[tuple[pathlib.Path, pathlib.Path]]:
    images = _by_stem(root / "images")
    masks = _by_stem(root / "masks")
    if not images:
        raise ValueError(f"{root / 'images'}: want PNG or JPEG files, got none.")
    mask_suffix = unicodedata.normalize("NFC", mask_suffix)
    wanted = {stem + mask_suffix: stem for stem in images}
    for stem in sorted(wanted.keys() - masks.keys()):
        raise ValueError(
            f"{images[wanted[stem]]}: no mask; want {root / 'masks' / stem}.png or .jpg "
            "(--config.data.mask_suffix is what masks have after the image's name)."
        )
    for stem in sorted(masks.keys() - wanted.keys()):
        own = stem.removesuffix(mask_suffix) if stem.endswith(mask_suffix) else None
        want = (
            f"{root / 'images' / own}.png or .jpg" if own else f"names that end in {mask_suffix!r}"
        )
        raise ValueError(f"{masks[stem]}: a mask with no image; want {want}.")
    return [(images[wanted[stem]], masks[stem]) for stem in sorted(wanted)]


def _by_stem(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns a folder's PNG and JPEG files by stem; warns of other files that aren't hidden."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; want images/ and masks/ in the root.")
    found: dict[str, pathlib.Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        require_utf8(path)
        if path.is_dir() or path.suffix.lower() not in image_file.SUFFIXES:
            ignored.append(path.name)
        elif path.exists() and not path.is_file():
            raise ValueError(f"{path}: want a file, got a pipe, a socket or a device.")
        elif _stem(path) in found:
            raise ValueError(f"{path}: has the same name as {found[_stem(path)].name}; want one.")
        else:
            found[_stem(path)] = path
    if ignored:
        logging.warning(
            "%s: %d not PNG or JPEG (subfolders are not read), ignored: %s",
            folder,
            len(ignored),
            ignored[:3],
        )
    return found
