"""The folder of a run: opened for one config, and for no other."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections as mlc
from etils import epath

from jaxlung import distributed, files

_FILES = ("config.json", "checkpoints", "lock")  # of every run that began to train
SECTIONS = ("model", "task", "optimizer", "step", "control", "data", "augment", "mesh", "paper")

# Where things are read from and how; they don't change what is computed.
FREE_FIELDS = (
    "data.data_dir",
    "data.download",
    "data.num_threads",
    "data.placement",
    "data.raw_dir",
    "data.raw_dir_montgomery",
    "data.raw_dir_shenzhen",
    "log_every_steps",
    "lungs_run",  # `lung_masks` sees to it that it is the same network.
    "mesh.data",
    "mesh.space",
    "step.remat",
    "step.steps_per_dispatch",
)


def open_for(config: mlc.ConfigDict, path: epath.Path) -> None:
    """Makes the folder if there is none and writes `config.json`; checks the one of a run there.

    A folder in which nothing was trained yet takes any config. `lungs_run` is written as an
    absolute path, so that the run goes on from anywhere.

    Args:
        config: the run.
        path: its folder.

    Raises:
        ValueError: the folder belongs to another config; names the fields that differ.
        OSError: it can't be written.
    """
    wanted = to_json(config)
    if "lungs_run" in wanted:
        wanted["lungs_run"] = str(epath.Path(config.lungs_run).expanduser().resolve())
    if is_trained(path) and (path / "config.json").exists():
        differing = differences(to_json(load_config(path)), wanted)
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
        if all((folder / name).exists() for name in wanted):
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
        config = mlc.ConfigDict(_lists_to_tuples(json.loads(file.read_text())))
    except ValueError as error:
        raise ValueError(f"{file}: not readable as JSON ({error}).") from error
    missing = [name for name in SECTIONS if name not in config]
    if missing:
        raise ValueError(f"{file}: there is no {' and no '.join(missing)} in it.")
    return config.lock()


def to_json(config: mlc.ConfigDict) -> dict[str, Any]:
    """The config as plain JSON values."""
    return json.loads(json.dumps(config.to_dict()))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two configs, a text for each field, but for `FREE_FIELDS`."""
    old, new = _flatten(old), _flatten(new)
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
