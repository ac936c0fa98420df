"""A raw download as a flat list of files, unpacked in a folder or packed in a zip."""

import dataclasses
import gzip
import io
import lzma
import os
import pathlib
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

from absl import logging

from jaxlung.host import files

_MEBIBYTE = 2**20
# The largest published files are JPEGs of 20 MB, and NIfTI files of 600 slices of int16.
_MAX_BYTES = {".nii": 2048 * _MEBIBYTE, ".gz": 2048 * _MEBIBYTE, ".json": 1024 * _MEBIBYTE}
_MAX_OTHER_BYTES = 128 * _MEBIBYTE
_ENCRYPTED = 1  # Bit in the flags of a zip's entry.


@dataclasses.dataclass(frozen=True)
class RawTree:
    """Files of a download.

    Attributes:
        where: path of the folder or the zip.
        names: sorted paths within it, with forward slashes; bytes that are not UTF-8 are escaped.
        read: function from a name to the file's bytes; may be called from many threads. Raises
            ValueError if the file is too large, can't be unpacked, or is a pipe or a device.
    """

    where: str
    names: list[str]
    read: Callable[[str], bytes]

    def visible(self, suffixes: tuple[str, ...]) -> list[str]:
        """Returns the names with one of `suffixes`, without hidden and system files.

        Examples are `.v7/metadata.json` and `__MACOSX/._1676192.json`.
        """
        return [
            name for name in self.names if name.lower().endswith(suffixes) and not _is_hidden(name)
        ]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _folder_tree(folder: pathlib.Path, path_of: Mapping[str, pathlib.Path]) -> RawTree:
    def read(name: str) -> bytes:
        path = path_of[name]
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{folder}: {name} is no regular file.")
        _require_size(str(folder), name, status.st_size)
        return path.read_bytes()

    return RawTree(str(folder), sorted(path_of), read)


def _list_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns paths by name; bytes that are not UTF-8 are escaped, as in `caf\\xe9.png`."""
    return {
        os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace"): path
        for path in _walk(folder)
    }


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files below a folder; visits a folder by its own name rather than by a link."""
    seen: set[tuple[int, int]] = set()
    links, left_out = [folder], []
    while links:
        for parent, folders, names in os.walk(links.pop(), onerror=_warn):
            status = os.stat(parent)
            if (status.st_dev, status.st_ino) in seen:
                left_out.append(parent)
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            here = pathlib.Path(parent)
            links += [here / name for name in folders if (here / name).is_symlink()]
            yield from (here / name for name in names)
    if left_out:
        logging.warning(
            "%s: %d links are left out, as their folders are read anyway, first %s",
            folder,
            len(left_out),
            left_out[0],
        )


def _warn(error: OSError) -> None:
    logging.warning("left out: %s", error)


def open_zip(path: pathlib.Path) -> RawTree:
    """Lists a zip, which is read without unpacking it.

    Raises:
        ValueError: the file is not a zip, or is truncated.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: want a zip, found no regular file.")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, *files.DECODE_ERRORS) as error:
        raise ValueError(f"{path}: not a whole zip file ({error}); download it again.") from error
    entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}

    def read(name: str) -> bytes:
        entry = entries[name]
        _require_size(str(path), name, entry.file_size)
        if entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"{path}: {name} has a password; unpack the zip, and name the folder.")
        try:
            return archive.read(entry)  # At most `file_size` bytes, whatever is packed.
        except NotImplementedError as error:
            raise ValueError(
                f"{path}: {name} can't be unpacked here ({error}); unpack the zip with another "
                "program, and name the folder."
            ) from error
        except (zipfile.BadZipFile, lzma.LZMAError, *files.DECODE_ERRORS) as error:
            raise ValueError(f"{path}: {name} is damaged in the zip ({error}).") from error

    return RawTree(str(path), sorted(entries), read)


def read_gzip(tree: RawTree, name: str) -> bytes:
    """Reads a gzipped file of the tree.

    Raises:
        ValueError: the file is damaged, or too large when unpacked.
    """
    packed = tree.read(name)
    inside = name.removesuffix(".gz")
    most = _max_bytes(inside)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{tree.where}: {name} is damaged ({error}).") from error
    _require_size(tree.where, inside, len(content))
    return content


def _max_bytes(name: str) -> int:
    return _MAX_BYTES.get(os.path.splitext(name)[1].lower(), _MAX_OTHER_BYTES)


def _require_size(where: str, name: str, size: int) -> None:
    """Raises ValueError for a file that would fill the memory, such as gigabytes of zeros."""
    most = _max_bytes(name)
    if size > most:
        raise ValueError(
            f"{where}: {name}: want at most {most // _MEBIBYTE} MiB, got {size // _MEBIBYTE} MiB."
        )


def open_folder_and_zips(folder: pathlib.Path) -> RawTree:
    """Lists a folder and the files in its zips, "a.zip/inside/b.png"; leaves out hidden zips.

    Links to folders are followed, but each folder is listed once.

    Raises:
        ValueError: see `open_zip`.
    """
    path_of = _list_files(folder)
    tree = _folder_tree(folder, path_of)
    inside: dict[str, tuple[RawTree, str]] = {}
    for zip_name in tree.visible((".zip",)):
        packed = open_zip(path_of[zip_name])
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
        place: path of a zip or a folder.
        holds: function that tells whether a tree is the download.
        wanted: description of the download, for the message.

    Raises:
        ValueError: there is no such place, a zip is damaged, or the download is not there.
    """
    path = pathlib.Path(place).expanduser()
    if path.is_file():
        tree = open_zip(path)
        if holds(tree):
            return tree
        raise ValueError(f"{path}: want {wanted}, found {_excerpt(tree.names)}.")
    if not path.is_dir():
        raise ValueError(f"{path}: want a zip or a folder with {wanted}, found no such place.")
    path_of = _list_files(path)
    tree = _folder_tree(path, path_of)
    if holds(tree):
        return tree
    zips = [name for name in tree.names if "/" not in name and name.endswith(".zip")]
    for tree_in_zip in (open_zip(path_of[name]) for name in zips):
        if holds(tree_in_zip):
            return tree_in_zip
    raise ValueError(f"{path}: want {wanted}, or a zip of them, found {_excerpt(tree.names)}.")


def find_with_zips(
    place: str | os.PathLike, holds: Callable[[RawTree], bool], wanted: str, advice: str = ""
) -> RawTree:
    """Finds a download in a zip, or in a folder whose zips count as folders, "a.zip/b.png".

    Args:
        place: path of a zip or a folder.
        holds: function that tells whether a tree is the download.
        wanted: description of the download, for the message.
        advice: text that ends the message if the folder has no such download.

    Raises:
        ValueError: there is no such place, a zip is damaged, or the download is not there.
    """
    path = pathlib.Path(place).expanduser()
    if not path.is_dir():
        return find(place, holds, wanted)
    tree = open_folder_and_zips(path)
    if not holds(tree):
        shown = ", ".join(tree.names[:3]) or "no files"
        raise ValueError(f"{tree.where}: want {wanted}, found {shown}{advice}.")
    return tree


def _excerpt(names: list[str]) -> str:
    if not names:
        return "no files"
    return f"{len(names)} other files ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
