"""A raw download as a flat list of files, whether it lies unpacked in a folder or in a zip."""

import dataclasses
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class RawTree:
    """Files of a download.

    Attributes:
        where: the folder or the zip.
        names: sorted paths within it, with forward slashes.
        read: gives a file's bytes by its name; may be called from many threads.
    """

    where: str
    names: list[str]
    read: Callable[[str], bytes]


def open_folder(folder: pathlib.Path) -> RawTree:
    """Lists a folder and all below it, following links to folders."""
    names = []
    for parent, _, files in os.walk(folder, followlinks=True):
        inside = pathlib.Path(parent).relative_to(folder)
        names += [(inside / file).as_posix() for file in files]
    return RawTree(str(folder), sorted(names), lambda name: (folder / name).read_bytes())


def open_zip(path: pathlib.Path) -> RawTree:
    """Lists a zip, which is read in place and never unpacked.

    Raises:
        ValueError: not a zip, or one that is cut short; from `read`, a file damaged within it.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a whole zip file ({error}); download it again.") from error

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path}: {name} is damaged in the zip ({error}).") from error

    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return RawTree(str(path), sorted(names), read)


def open_folder_and_zips(folder: pathlib.Path) -> RawTree:
    """Lists a folder and what its zips hold, "a.zip/inside/b.png"; hidden zips are left out.

    Raises:
        ValueError: as `open_zip`.
    """
    tree = open_folder(folder)
    inside = {}
    for zip_name in tree.names:
        hidden = any(part.startswith((".", "__MACOSX")) for part in zip_name.split("/"))
        if zip_name.lower().endswith(".zip") and not hidden:
            packed = open_zip(folder / zip_name)
            inside |= {f"{zip_name}/{name}": (packed, name) for name in packed.names}

    def read(name: str) -> bytes:
        if name not in inside:
            return tree.read(name)
        packed, name_inside = inside[name]
        return packed.read(name_inside)

    return RawTree(tree.where, sorted([*tree.names, *inside]), read)


def find(place: str | os.PathLike, holds: Callable[[RawTree], bool], wanted: str) -> RawTree:
    """Finds a download in a zip, in a folder, or in a zip that lies in that folder.

    Args:
        place: a zip or a folder.
        holds: whether a tree is the one that is looked for.
        wanted: what is looked for, for the message.

    Raises:
        ValueError: there is no such place, a damaged zip, or none holds what is wanted.
    """
    path = pathlib.Path(place).expanduser()
    if path.is_file():
        tree = open_zip(path)
        if holds(tree):
            return tree
        raise ValueError(f"{path}: want {wanted}, found {_excerpt(tree.names)}.")
    if not path.is_dir():
        raise ValueError(f"{path}: want a zip or a folder with {wanted}, found no such place.")
    tree = open_folder(path)
    if holds(tree):
        return tree
    zips = [path / name for name in tree.names if "/" not in name and name.endswith(".zip")]
    for tree_in_zip in map(open_zip, zips):
        if holds(tree_in_zip):
            return tree_in_zip
    raise ValueError(f"{path}: want {wanted}, or a zip of them, found {_excerpt(tree.names)}.")


def _excerpt(names: list[str]) -> str:
    if not names:
        return "no files"
    return f"{len(names)} other files ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
