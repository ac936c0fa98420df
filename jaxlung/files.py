"""Files that appear whole or not at all."""

import os

from etils import epath


def write_text(path: epath.Path, text: str) -> None:
    """Writes `path` through a temporary file beside it."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Writes `path` through a temporary file beside it."""
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
