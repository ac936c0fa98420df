"""The folder of a run: opened for one config, and for no other."""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections as mlc
from etils import epath

from jaxlung import distributed, files, older_config
from jaxlung.report import run_files

_FILES = ("config.json", "checkpoints", "lock")  # of every run that began to train

# Where things are read from and how; they don't change what is computed.
FREE_FIELDS = (
    "data.csv",  # `splits.csv` tells other data apart.
    "data.data_dir",
    "data.download",
    "data.negative_roots",
    "data.num_threads",
    "data.placement",
    "data.raw_dir",
    "data.raw_dir_montgomery",
    "data.raw_dir_shenzhen",
    "data.root",
    "log_every_steps",
    "lungs_run",  # `lung_masks` sees to it that it is the same network.
    "mesh.data",
    "mesh.space",
    "step.remat",
    "step.steps_per_dispatch",
)
# Paths, which are stored absolute, so that the run goes on from anywhere.
PATH_FIELDS = (
    "data.csv",
    "data.data_dir",
    "data.negative_roots",
    "data.raw_dir",
    "data.raw_dir_montgomery",
    "data.raw_dir_shenzhen",
    "data.root",
    "init_from",
    "lungs_run",
)
_LISTS = ("root", "negative_roots")  # separated by commas
# Fields outside the sections, and what they are.
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
_SPLITS = ("train", "validation", "test")


def open_for(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Makes the folder if there is none and writes `config.json`; checks the one of a run there.

    A folder in which nothing was trained yet takes any config. `PATH_FIELDS` are written as
    absolute paths.

    Args:
        config: the run.
        path: its folder.

    Raises:
        ValueError: the folder belongs to another config; names the fields that differ.
        OSError: it can't be written.
    """
    wanted = to_json(with_absolute_paths(config))
    if is_trained(path) and (path / "config.json").exists():
        differing = differences(to_json(with_absolute_paths(load_config(path))), wanted)
        if differing:
            raise ValueError(
                f"{path} holds a run of another config: {'; '.join(differing)}. "
                "Choose another --workdir."
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--workdir: can't make the folder {path} ({error.strerror}).") from error
    files.write_text(path / "config.json", json.dumps(wanted, indent=2) + "\n")


def with_absolute_paths(config: mlc.ConfigDict) -> mlc.ConfigDict:
    """Returns a copy in which no path depends on the current folder."""
    changed = mlc.ConfigDict(config.to_dict())
    for field in PATH_FIELDS:
        *sections, name = field.split(".")
        section = functools.reduce(getattr, sections, changed)
        if name in section:
            parts = section[name].split(",") if name in _LISTS else [section[name]]
            section[name] = ",".join(map(_to_absolute, parts))
    return changed


def _to_absolute(path: str) -> str:
    """The path from the root; "~", which is each user's own, stays."""
    path = path.strip()
    return path if not path or path.startswith("~") else str(epath.Path(path).absolute())


@contextlib.contextmanager
def lock(path: epath.Path) -> Iterator[None]:
    """Keeps other runs out of the folder, for as long as this process lives.

    Raises:
        ValueError: another process is at work in it.
    """
    if not distributed.is_main():  # Process 0 holds it for all.
        yield
        return
    with open(path / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{path}: another run is at work in it; wait for it, or choose another --workdir."
            ) from error
        yield


def require_outside(output: os.PathLike[str] | str, runs: Iterable[epath.Path] = ()) -> None:
    """Raises ValueError if an output would be one of a run's files, links resolved.

    Args:
        output: a file or a folder, which needn't exist.
        runs: folders named as runs; others are known by all of `_FILES`.
    """
    place = pathlib.Path(os.path.realpath(output))  # epath leaves links as they are.
    closed = {os.path.realpath(run) for run in runs}
    for folder in (place, *place.parents):
        wanted = _FILES[:1] if str(folder) in closed else _FILES
        # Unlike pathlib, os.path takes a name that is too long for one that isn't there.
        if all(os.path.exists(folder / name) for name in wanted):
            raise ValueError(
                f"--output: {output} is in the run {folder}, whose files must stay as training and "
                "evaluation left them; choose a place outside."
            )


def is_trained(path: epath.Path) -> bool:
    """Whether the folder has a checkpoint."""
    folder = path / "checkpoints"
    return folder.exists() and any(step.name.isdigit() for step in folder.iterdir())


def load_config(path: epath.Path) -> mlc.ConfigDict:
    """The config that `path` was opened for.

    Raises:
        ValueError: `path` is no run's folder, or its `config.json` is damaged.
    """
    file = path / "config.json"
    if not file.exists():
        raise ValueError(f"{path}: not a run's folder (there is no config.json).")
    try:
        content = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not readable as JSON ({error}).") from error
    _require_config(file, content)
    config = mlc.ConfigDict(_lists_to_tuples(content))
    older_config.fill(config)
    return config.lock()


def _require_config(file: epath.Path, content: Any) -> None:
    """Raises ValueError unless the content has a config's fields, of the right types."""
    if not isinstance(content, dict):
        raise ValueError(f"{file}: want a JSON object, got {content!r:.60}.")
    missing = [name for name in (*run_files.SECTIONS, *_FIELDS) if name not in content]
    if missing:
        raise ValueError(f"{file}: there is no {' and no '.join(missing)} in it.")
    for name, kind in (_FIELDS | dict.fromkeys(run_files.SECTIONS, dict)).items():
        _require_kind(file, name, content[name], kind)
    for split in _SPLITS:
        _require_kind(file, f"paper.{split}", content["paper"].get(split), dict)
    for field in PATH_FIELDS:
        *sections, name = field.split(".")
        section = functools.reduce(dict.__getitem__, sections, content)
        if name in section:
            _require_kind(file, field, section[name], str)


def _require_kind(file: epath.Path, field: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {int: "a whole number", str: "text", dict: "an object"}
        raise ValueError(f"{file}: {field}: want {names[kind]}, got {value!r:.60}.")


@contextlib.contextmanager
def naming_config(path: epath.Path, *, values: bool = True) -> Iterator[None]:
    """Names the run's `config.json` in what its other fields lead to when they can't be used.

    They are checked by the functions that take them, whose signatures are their schema.

    Args:
        path: the run's folder.
        values: blame the file for values that are refused, too. False where other files are read.
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
    """The config as plain JSON values."""
    return json.loads(json.dumps(config.to_dict()))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two configs, a text for each field, but for `FREE_FIELDS`.

    A paper's numbers may differ too: they stand beside what is computed.
    """
    old, new = (_flatten(config | {"paper": {}}) for config in (old, new))
    names = sorted((old.keys() | new.keys()) - set(FREE_FIELDS))
    return [
        f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
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
