"""Files that appear whole or not at all; of several processes, one writes them."""

import os

from etils import epath

_writes = True


def leave_to_others() -> None:
    """From here on this process writes nothing: another one does."""
    global _writes
    _writes = False


def write_text(path: epath.Path, text: str) -> None:
    """Writes `path` through a temporary file beside it."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes `path` through a temporary file beside it.

    Raises:
        OSError: it can't be written; names it.
    """
    if not _writes:
        return
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:  # A full disk is reported without a name.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
