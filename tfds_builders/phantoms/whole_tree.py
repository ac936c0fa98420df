"""Writes a generated download whole or not at all, with a receipt of what it was made from."""

import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

_RECEIPT = "README.txt"  # A stray file of the real kind, which says what the tree was made from.


def write(
    root: pathlib.Path, made_from: Mapping[str, Any], write_files: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """Makes the folder `root`, unless the same call made it before.

    Args:
        root: folder to make.
        made_from: JSON values that say what is in it.
        write_files: fills an empty folder.

    Returns:
        `root`.

    Raises:
        ValueError: `root` holds something else.
    """
    receipt = json.dumps(dict(made_from))
    if root.exists():
        if _read(root / _RECEIPT) == receipt:
            return root
        raise ValueError(f"{root}: want phantoms made from {receipt}, found something else there.")
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        write_files(temporary)
        (temporary / _RECEIPT).write_text(receipt)
        temporary.chmod(0o755)  # mkdtemp lets nobody else in.
        temporary.rename(root)
    except OSError:
        if _read(root / _RECEIPT) != receipt:  # Else another process was first: just as well.
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _read(path: pathlib.Path) -> str | None:
    return path.read_text() if path.is_file() else None
