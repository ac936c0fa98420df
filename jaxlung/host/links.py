"""Symbolic links: each file once, whatever leads to it."""

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", bound=os.PathLike[str])


def each_once(paths: Iterable[T]) -> list[T]:
    """Returns paths without those that lead to the same file as another one.

    A file's own path is kept rather than a link to it, else the first one.
    """
    kept: dict[str, T] = {}
    for path in sorted(paths, key=os.path.islink):
        kept.setdefault(os.path.realpath(path), path)
    return list(kept.values())
