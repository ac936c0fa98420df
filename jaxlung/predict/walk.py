"""Lists the files below a folder or of a pattern, following links, each file once."""

import collections
import glob
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from absl import logging

from jaxlung.host import files

_WILD = re.compile(r"[*?\[]")
_ALL_FOLDERS = "**"


def below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns every file below a folder except hidden ones and those in hidden folders.

    Links to folders are followed, but each folder is read once, as links may form circles. Pipes,
    sockets, devices and broken links are left out with a warning.
    """
    return _files(_entries(folder))


def matching(pattern: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that match an absolute glob, and all files below folders that match.

    The pattern ** stands for any number of folders.
    """
    base = fixed_part(pattern)
    found: list[pathlib.Path] = []
    for match in _expand(base, pattern.relative_to(base).parts):
        found += _entries(match) if os.path.isdir(match) else [match]
    return _files(found)


def fixed_part(pattern: pathlib.Path) -> pathlib.Path:
    """Returns the folder above the first part of a pattern with a wildcard."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return pathlib.Path(*parts[:wild])


def _expand(folder: pathlib.Path, parts: tuple[str, ...]) -> Iterator[pathlib.Path]:
    # The standard ** follows links in circles, so it isn't used.
    if not parts:
        yield folder
    elif parts[0] == _ALL_FOLDERS:
        for inner, _ in _folders(folder):
            yield from _expand(inner, parts[1:])
    else:
        for name in glob.iglob(parts[0], root_dir=folder):
            yield from _expand(folder / name, parts[1:])


def _entries(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (place / name for place, names in _folders(folder) for name in names)


def _folders(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """Yields a folder and all folders below it, each once, with the names of their files.

    Linked folders come last.
    """
    seen: set[str] = set()
    waiting = collections.deque([folder])
    while waiting:
        for place, folders, names in os.walk(waiting.popleft(), onerror=_tell):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            here = pathlib.Path(place)
            folders[:] = [name for name in folders if not name.startswith(".")]
            waiting.extend(here / name for name in folders if os.path.islink(here / name))
            yield here, [name for name in names if not name.startswith(".")]


def _tell(error: OSError) -> None:
    logging.warning("%s: can't be read (%s), left out.", error.filename, error.strerror)


def _files(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the paths of regular files, each file once."""
    found = dict.fromkeys(paths)
    regular = [path for path in found if os.path.isfile(path)]
    kept = files.each_once(regular)
    _tell_left_out(list(found.keys() - set(regular)), "pipes, sockets, devices or broken links")
    _tell_left_out(list(set(regular) - set(kept)), "links to files that are read anyway")
    return kept


def _tell_left_out(paths: list[pathlib.Path], what: str) -> None:
    if paths:
        named = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        logging.warning("left out %d %s: %s", len(paths), what, named)
