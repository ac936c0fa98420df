"""Files written whole or not at all, each read once, and the errors of decoding damaged ones."""

import contextlib
import hashlib
import os
import pathlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from etils import epath

# Bytes of a name that leave room for the ending of a temporary file; file systems allow 255.
_LONGEST_NAME = 200

T = TypeVar("T", bound=os.PathLike[str])

# The errors that Pillow and pydicom raise for damaged files: they parse as if all were well, so it
# depends on the place of the damage. Each library has a few of its own besides:
# `image.decoder.ERRORS` and `volume.dicom_file.DAMAGE`.
DECODE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
)

_writes = True


def leave_to_others() -> None:
    """Turns every later write of this process into nothing: another process writes the files."""
    global _writes
    _writes = False


def to_absolute(path: os.PathLike[str] | str) -> epath.Path:
    """Returns the absolute path of a run's folder, as Orbax requires it."""
    return epath.Path(path).expanduser().resolve()


def write_text(path: epath.Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all.

    Python holds bytes of file names that are no UTF-8 as surrogates; they are written as `\\udce9`.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes a file whole or not at all, through a temporary file beside it.

    Raises:
        OSError: the file can't be written; names it.
    """
    if not _writes:
        return
    name = os.fsencode(path.name)
    if len(name) > _LONGEST_NAME:
        name = hashlib.sha256(name).hexdigest().encode()
    temporary = path.parent / f".{os.fsdecode(name)}.{os.getpid()}.tmp"
    with naming(path):
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: os.PathLike[str] | str) -> Iterator[None]:
    """Adds the file's name to the system's errors, which for a full disk name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def each_once(paths: Iterable[T]) -> list[T]:
    """Returns the paths without those that lead to the same file as another one by links.

    The path with the fewest links in it is kept; among equals the first one.
    """
    kept: dict[str, T] = {}
    for path in sorted(paths, key=_num_links):
        kept.setdefault(os.path.realpath(path), path)
    return list(kept.values())


def _num_links(path: os.PathLike[str]) -> int:
    path = pathlib.Path(path)
    return sum(os.path.islink(part) for part in (path, *path.parents))
