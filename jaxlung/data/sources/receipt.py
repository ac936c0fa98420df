"""The receipt in a prepared dataset's folder: its files, and the download it was made from.

ArrayRecord files have checksums, so the receipt has only their sizes. The small files that describe
them have none, so it has their digests.
"""

import hashlib
import json
import pathlib

from absl import logging
from etils import epath

from jaxlung.host import files

FILE = "jaxlung_raw_dir.json"
_NEEDED = ("dataset_info.json", "features.json")


def write(folder: pathlib.Path, raw_dir: str) -> None:
    """Writes the receipt of the files in `folder`, which were made from `raw_dir`."""
    bytes_of, sha256 = {}, {}
    for path in sorted(folder.iterdir()):
        if ".array_record" in path.name:
            bytes_of[path.name] = path.stat().st_size
        else:
            sha256[path.name] = _digest(path)
    note = {"raw_dir": _absolute(raw_dir), "bytes": bytes_of, "sha256": sha256}
    files.write_text(epath.Path(folder / FILE), json.dumps(note, indent=1) + "\n")


def check(folder: pathlib.Path, raw_dir: str) -> None:
    """Compares a prepared dataset with its receipt.

    Args:
        folder: folder of the dataset.
        raw_dir: path of the download that it should be made from; "" for any.

    Raises:
        ValueError: a file is missing or damaged, or the dataset was made from another download.
    """
    for name in _NEEDED:
        _require(folder, name, (folder / name).is_file(), "it is missing")
    if not (folder / FILE).exists():
        if raw_dir:
            logging.warning("%s: it is not known from which download it was prepared", folder)
        return
    try:
        note = json.loads((folder / FILE).read_text())
        made_from = note["raw_dir"]
        # Earlier versions listed no files.
        bytes_of, sha256 = dict(note.get("bytes", {})), dict(note.get("sha256", {}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(folder / FILE, folder, str(error)) from error
    for name in [*bytes_of, *sha256]:
        _require(folder, name, (folder / name).is_file(), "it is missing")
    for name, want in bytes_of.items():
        got = (folder / name).stat().st_size
        _require(folder, name, got == want, f"want {want} bytes, got {got}")
    for name, want in sha256.items():
        _require(folder, name, _digest(folder / name) == want, "not as it was written")
    if raw_dir:
        _require_same_raw(folder, made_from, raw_dir)


def damaged(file: pathlib.Path, folder: pathlib.Path, reason: str) -> ValueError:
    """Returns the error for a damaged file of a prepared dataset, which says how to repair it."""
    reason = " ".join(reason.split())[:200]
    return ValueError(
        f"{file}: damaged ({reason}); remove the folder {folder} and run the same command, which "
        "prepares it again from the download."
    )


def _require(folder: pathlib.Path, name: str, is_good: bool, reason: str) -> None:
    if not is_good:
        raise damaged(folder / name, folder, reason)


def _require_same_raw(folder: pathlib.Path, made_from: str, raw_dir: str) -> None:
    if made_from != _absolute(raw_dir):
        raise ValueError(
            f"{folder} was prepared from {made_from or 'the manual folder'}, not from "
            f"{_absolute(raw_dir)}; remove it, choose another --config.data.data_dir, or, if the "
            "download was only moved, leave its path out."
        )


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _absolute(path: str) -> str:
    return str(pathlib.Path(path).expanduser().resolve()) if path else ""
