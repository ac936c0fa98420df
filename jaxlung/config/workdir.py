"""The folder of a run: it belongs to one config, and one process at a time works in it."""

import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections as mlc
from etils import epath

from jaxlung.config import older_config, run_files, shipped
from jaxlung.host import files, folder_lock
from jaxlung.parallel import distributed

_FILES = ("config.json", "checkpoints", "lock")  # in the folder of every run that began to train

# Fields that may change when a run resumes: they don't change what is computed.
FREE_FIELDS = (
    "calibrate",  # It changes no weight; what was scored without it is scored again.
    "data.csv",  # `splits.csv` shows if the data differ.
    "data.data_dir",
    "data.download",
    "data.negative_roots",
    "data.num_threads",
    "data.placement",
    "data.root",
    "log_every_steps",
    "lungs_run",  # `lung_masks` checks that it is the same network.
    "mesh.data",
    "mesh.space",
    "step.remat",
    "step.steps_per_dispatch",
)
# Paths, stored absolute, so that the run resumes from any current folder.
PATH_FIELDS = (
    "data.csv",
    "data.data_dir",
    "data.negative_roots",
    "data.root",
    "init_from",
    "lungs_run",
)
# Fields that begin so name downloads, whatever the dataset: free, and paths.
RAW_DIR = "data.raw_dir"
_LISTS = ("root", "negative_roots")  # fields with several paths, separated by commas
# Fields outside the sections, and their types.
_FIELDS = {
    "seed": int,
    "epochs": int,
    "log_every_steps": int,
    "selection": str,
    "init_from": str,
    "freeze": str,
    "model_name": str,
    "task_name": str,
}


def open_for(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Opens or makes the folder of a run and writes `config.json` into it.

    A folder in which nothing was trained yet takes any config. `PATH_FIELDS` are written as
    absolute paths.

    Args:
        config: the run's config.
        path: the run's folder.

    Raises:
        ValueError: the folder holds a run of another config; names the fields that differ.
        OSError: `config.json` can't be written.
    """
    require_same(config, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--workdir: can't make the folder {path} ({error.strerror}).") from error
    wanted = to_json(with_absolute_paths(config))
    files.write_text(path / "config.json", json.dumps(wanted, indent=2) + "\n")


def require_same(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Raises ValueError if another config was trained in a run's folder; names what differs."""
    if not is_trained(path) or not (path / "config.json").exists():
        return
    there, here = (to_json(with_absolute_paths(x)) for x in (load_config(path), config))
    if differing := differences(there, here):
        raise ValueError(
            f"{path} holds a run of another config: {'; '.join(differing)}; choose another "
            "--workdir."
        )


def with_absolute_paths(config: mlc.ConfigDict) -> mlc.ConfigDict:
    """Returns a copy of a config in which no path depends on the current folder."""
    changed = mlc.ConfigDict(config.to_dict())
    for field in _path_fields(config.data):
        *sections, name = field.split(".")
        section = functools.reduce(getattr, sections, changed)
        if name in section:
            parts = section[name].split(",") if name in _LISTS else [section[name]]
            section[name] = ",".join(map(_to_absolute, parts))
    return changed


def _path_fields(data: Iterable[str]) -> list[str]:
    """Returns `PATH_FIELDS` and those fields of a `data` section that name a download."""
    fields = (f"data.{name}" for name in data)
    return [*PATH_FIELDS, *(field for field in fields if field.startswith(RAW_DIR))]


def _to_absolute(path: str) -> str:
    """Returns the absolute path; a leading "~", which is each user's own, stays.

    So does the name of a network that comes along with jaxlung.
    """
    path = path.strip()
    if not path or path.startswith("~") or shipped.is_name(path):
        return path
    return str(epath.Path(path).absolute())


@contextlib.contextmanager
def lock(path: epath.Path) -> Iterator[None]:
    """Keeps other runs out of the folder while the body runs.

    Raises:
        ValueError: another process works in the folder.
    """
    if not distributed.is_main():  # Process 0 holds the lock for all processes of the run.
        yield
        return
    with open(path / "lock", "a") as file:
        if not folder_lock.try_lock(file):
            raise ValueError(
                f"{path}: another run is at work in it; wait for it, or choose another --workdir."
            )
        yield


def require_outside(
    argument: str, output: os.PathLike[str] | str, runs: Iterable[epath.Path] = ()
) -> None:
    """Raises ValueError if an output, with links resolved, lies in the folder of a run.

    Args:
        argument: name of the output on the command line, for the message.
        output: a file or a folder, which needn't exist.
        runs: folders that the user named as runs. Other runs are recognised by their files.
    """
    place = pathlib.Path(os.path.realpath(output))  # epath's resolve() doesn't follow links.
    closed = {os.path.realpath(run) for run in runs}
    for folder in (place, *place.parents):
        wanted = _FILES[:1] if str(folder) in closed else _FILES
        # Unlike pathlib, os.path takes a name that is too long for one that isn't there.
        if all(os.path.exists(folder / name) for name in wanted):
            raise ValueError(
                f"{argument}: {output} is in the run {folder}, whose files must stay as training "
                "and evaluation left them; choose a place outside."
            )


def is_trained(path: epath.Path) -> bool:
    """Returns True if the folder has a checkpoint."""
    folder = path / "checkpoints"
    return folder.exists() and any(step.name.isdigit() for step in folder.iterdir())


def load_config(path: epath.Path) -> mlc.ConfigDict:
    """Returns the config of the run in a folder.

    Raises:
        ValueError: `path` is no run's folder, or its `config.json` is damaged.
    """
    file = path / "config.json"
    if not file.exists():
        raise ValueError(f"{path}: not a run's folder (there is no config.json).")
    return to_config(file, run_files.load_json(file))


def to_config(file: os.PathLike[str], content: Any) -> mlc.ConfigDict:
    """Returns a config from its JSON values; fields that an older version lacked are filled in.

    Args:
        file: where the values are from, for errors.
        content: the values.

    Raises:
        ValueError: it is no config.
    """
    _require_config(file, content)
    config = mlc.ConfigDict(_lists_to_tuples(content))
    older_config.fill(config)
    return config.lock()


def _require_config(file: os.PathLike[str], content: Any) -> None:
    """Raises ValueError unless the content has a config's fields, of the right types."""
    missing = [name for name in (*run_files.SECTIONS, *_FIELDS) if name not in content]
    if missing:
        raise ValueError(f"{file}: there is no {' and no '.join(missing)} in it.")
    for name, kind in (_FIELDS | dict.fromkeys(run_files.SECTIONS, dict)).items():
        _require_kind(file, name, content[name], kind)
    for split in run_files.SPLITS:
        _require_kind(file, f"paper.{split}", content["paper"].get(split), dict)
    for field in _path_fields(content["data"]):
        *sections, name = field.split(".")
        section = functools.reduce(dict.__getitem__, sections, content)
        if name in section:
            _require_kind(file, field, section[name], str)


def _require_kind(file: os.PathLike[str], field: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {int: "a whole number", str: "text", dict: "an object"}
        raise ValueError(f"{file}: {field}: want {names[kind]}, got {value!r:.60}.")


@contextlib.contextmanager
def naming_config(path: epath.Path, *, values: bool = True) -> Iterator[None]:
    """Names the run's `config.json` in errors that the fields of the config lead to.

    The functions that take the fields check them: their signatures are the schema.

    Args:
        path: the run's folder.
        values: also name the file in a ValueError. False where the body reads other files, too.
    """
    file = path / "config.json"
    try:
        yield
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"{file}: a field is missing, unknown or of another type ({error})."
        ) from error
    except ValueError as error:
        if not values:
            raise
        raise ValueError(f"{file}: {error}") from error


def to_json(config: mlc.ConfigDict) -> dict[str, Any]:
    """Returns the config as plain JSON values."""
    return json.loads(json.dumps(config.to_dict()))


def fields(config: mlc.ConfigDict) -> dict[str, Any]:
    """Returns every field's name, such as "data.batch_size", -> its value."""
    return _flatten(config.to_dict())


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns a text for each field, except `FREE_FIELDS`, that differs between two configs.

    A paper's numbers may differ, too: they are shown beside the results and change none.
    """
    old, new = (_flatten(config | {"paper": {}}) for config in (old, new))
    names = sorted((old.keys() | new.keys()) - set(FREE_FIELDS))
    return [
        f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in names
        if old.get(name) != new.get(name) and not name.startswith(RAW_DIR)
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(_lists_to_tuples(item) for item in value) if isinstance(value, list) else value
