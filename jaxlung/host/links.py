"""Symbolic links: each file once, whatever leads to it."""

import os
import pathlib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", bound=os.PathLike[str])


def each_once(paths: Iterable[T]) -> list[T]:
    """Returns paths without those that lead to the same file as another one.

    The path with the fewest links in it is kept, else the first one.
    """
    kept: dict[str, T] = {}
    for path in sorted(paths, key=_num_links):
        kept.setdefault(os.path.realpath(path), path)
    return list(kept.values())


def _num_links(path: os.PathLike[str]) -> int:
    path = pathlib.Path(path)
    return sum(os.path.islink(part) for part in (path, *path.parents))
