"""The files below a folder, or of a pattern: links are followed, and each file comes once."""

import collections
import glob
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from absl import logging

from jaxlung.host import links

_WILD = re.compile(r"[*?\[]")
_ALL_FOLDERS = "**"


def below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns every file below a folder, but hidden ones and what lies in hidden folders.

    A linked folder is read as if it stood there, unless it is read anyway: links may lead in
    circles. Pipes, sockets, devices and links to nothing are left out with a warning.
    """
    return _files(_entries(folder))


def matching(pattern: pathlib.Path) -> list[pathlib.Path]:
    """Returns what `below` does, of whatever matches an absolute glob; ** is any folders."""
    base = fixed_part(pattern)
    found = []
    for match in _expand(base, pattern.relative_to(base).parts):
        found += _entries(match) if os.path.isdir(match) else [match]
    return _files(found)


def fixed_part(pattern: pathlib.Path) -> pathlib.Path:
    """Returns the folder above the first part with a wild card."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    return pathlib.Path(*parts[:wild])


def _expand(folder: pathlib.Path, parts: tuple[str, ...]) -> Iterator[pathlib.Path]:
    # Not glob's own **, which follows links in circles.
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
    """A folder and all in it, each once, with the names of their files; linked ones come last."""
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
    """Those that are files, each once."""
    files, others = [], []
    for path in dict.fromkeys(paths):
        (files if os.path.isfile(path) else others).append(path)
    _tell_left_out(others, "pipes, sockets, devices or links to nothing")
    kept = links.each_once(files)
    _tell_left_out(list(set(files) - set(kept)), "links to files that are read anyway")
    return kept


def _tell_left_out(paths: list[pathlib.Path], what: str) -> None:
    if paths:
        named = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        logging.warning("left out as %s (%d): %s", what, len(paths), named)
