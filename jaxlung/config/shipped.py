"""The networks that come along with jaxlung: exported files in `jaxlung/exported/`."""

import pathlib

FOLDER = pathlib.Path(__file__).parent.parent / "exported" / "networks"
SUFFIX = ".jaxlung"


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
