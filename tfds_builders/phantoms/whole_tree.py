"""Writes a generated download whole or not at all, with a receipt of its settings."""

import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

_RECEIPT = "README.txt"  # Real downloads have such a file; here it has the settings.


def write(
    root: pathlib.Path, made_from: Mapping[str, Any], write_files: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """Makes the folder `root`, unless the same call made it before.

    Args:
        root: folder to make.
        made_from: settings of the generator, JSON values.
        write_files: function that fills an empty folder.

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
        temporary.chmod(0o755)  # mkdtemp gives no access to others.
        temporary.rename(root)
    except OSError:
        if _read(root / _RECEIPT) != receipt:  # Otherwise another process was first, which is fine.
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def write_xrays(
    root: pathlib.Path,
    num_images: int,
    image_size: int,
    seed: int,
    *,
    least: int,
    write_files: Callable[[pathlib.Path, int, int, int], None],
) -> pathlib.Path:
    """Makes the folder `root` of X-rays, see `write`.

    Args:
        root: folder to make.
        num_images: number of images.
        image_size: size of images in pixels.
        seed: seed.
        least: smallest number of images.
        write_files: function of an empty folder, `num_images`, `image_size` and `seed`.

    Raises:
        ValueError: too few images, or `root` holds something else.
    """
    if num_images < least:
        raise ValueError(f"num_images: want at least {least}, got {num_images}.")
    made_from = {"num_images": num_images, "image_size": image_size, "seed": seed}
    return write(root, made_from, lambda folder: write_files(folder, num_images, image_size, seed))


def _read(path: pathlib.Path) -> str | None:
    return path.read_text() if path.is_file() else None
