"""The networks that come along with jaxlung: exported files in `jaxlung/exported/networks/`."""

import hashlib
import os
import pathlib

FOLDER = pathlib.Path(__file__).parent.parent / "exported" / "networks"
SUFFIX = ".jaxlung"
DEFAULT = "lungs"  # what predicts where no network is named


def names() -> list[str]:
    """Returns the names of the networks that come along."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def is_name(model: str) -> bool:
    """Returns True if this names a network that comes along, and no run or file of that name."""
    path = pathlib.Path(model)
    return model in names() and not (path.is_file() or (path / "config.json").exists())


def resolve(model: str) -> pathlib.Path:
    """Returns the absolute path of a run's folder, an exported file, or a network by its name.

    Raises:
        ValueError: there is nothing of that name; lists the networks that come along.
    """
    if is_name(model):
        return FOLDER / f"{model}{SUFFIX}"
    path = pathlib.Path(model).expanduser().absolute()
    if not path.exists():
        known = f", or one of {', '.join(names())}" if names() else ""
        raise ValueError(
            f"{path}: not a run's folder: nothing is there; want a run's folder, an exported "
            f"file{known}."
        )
    return path


def default() -> pathlib.Path:
    """Returns the path of the network that predicts where none is named.

    Raises:
        ValueError: it doesn't come along with this jaxlung.
    """
    if DEFAULT not in names():
        raise ValueError(
            f"--model: got none, and this jaxlung comes without its network {DEFAULT!r}; want a "
            "run's folder or an exported file."
        )
    return FOLDER / f"{DEFAULT}{SUFFIX}"


def digest(path: os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file that comes along, in hexadecimal; "" for any other path."""
    path = pathlib.Path(path)
    if path.parent != FOLDER:
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()
