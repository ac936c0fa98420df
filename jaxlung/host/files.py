"""Files that appear whole or not at all; of several processes, one writes them."""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

_writes = True


def leave_to_others() -> None:
    """From here on this process writes nothing: another one does."""
    global _writes
    _writes = False


def to_absolute(path: os.PathLike[str] | str) -> epath.Path:
    """Returns the path of a run's folder as Orbax wants it: absolute."""
    return epath.Path(path).expanduser().resolve()


def write_text(path: epath.Path, text: str) -> None:
    """Writes `path` through a temporary file beside it, in UTF-8.

    Bytes of file names that are no UTF-8 are written as `\\udce9`: Python holds them as surrogates.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes `path` through a temporary file beside it.

    Raises:
        OSError: it can't be written; names it.
    """
    if not _writes:
        return
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    with naming(path):
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: os.PathLike[str] | str) -> Iterator[None]:
    """Names `path` in errors of the system: of a full disk it says no more than that it is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
