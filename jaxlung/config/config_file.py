"""Finds and runs config and study files, and sets fields of configs from the command line."""

import difflib
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections as mlc
from absl import flags
from ml_collections import config_flags

from jaxlung.config import config_arg

SHIPPED = {"config": "", "study": "studies"}  # kind of file -> its folder inside configs/
_ARGUMENTS = {"config": "--config", "study": "NAME"}  # kind of file -> the argument that names it


def resolve(spec: str, kind: str = "config") -> str:
    """Finds the file of a config or a study.

    Args:
        spec: a path such as "configs/covidqu.py", or the name of a file that jaxlung ships, such
            as "covidqu"; either with ":ARG".
        kind: a key of `SHIPPED`.

    Returns:
        Path of the file, with ":ARG" if `spec` has one.

    Raises:
        ValueError: there is no such file; lists the shipped ones.
    """
    name, colon, arg = spec.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        shipped = _shipped(kind)
        if name not in shipped:
            raise ValueError(
                f"{_ARGUMENTS[kind]}: no file {name!r} in {pathlib.Path.cwd()}, and jaxlung ships "
                f"only {', '.join(shipped)}."
            )
        path = shipped[name]
    return f"{path}{colon}{arg}"


def shipped_configs() -> dict[str, pathlib.Path]:
    """Returns the paths of the shipped configs by name.

    They lie inside an installed wheel, or in the checkout's folder `configs`.
    """
    return _shipped("config")


def shipped_studies() -> dict[str, pathlib.Path]:
    """Returns the paths of the shipped studies by name."""
    return _shipped("study")


def _shipped(kind: str) -> dict[str, pathlib.Path]:
    inside = pathlib.Path(__file__).parents[1] / "configs"
    folder = inside if inside.is_dir() else inside.parent.parent / "configs"
    return {path.stem: path for path in sorted((folder / SHIPPED[kind]).glob("*.py"))}


def load(spec: str, function: str = "get_config") -> Any:
    """Runs the function `get_config` or `get_study` of a file.

    Args:
        spec: the resolved file, see `resolve`.
        function: name of the function; it is given the spec's ARG.

    Returns:
        The function's result: an `mlc.ConfigDict` or a `study.Study`.

    Raises:
        ValueError: the file has no such function or raises an error; names it. Or the spec names
            several runs, see `config_arg.split_repeats`.
    """
    name, _, arg = spec.partition(":")
    if function == "get_config" and (repeats := config_arg.split_repeats(arg)).kinds:
        raise ValueError(
            f"{spec}: want one run, got {repeats.number} (fold=0,folds=5 is one fold, and "
            "--config.seed=3 is one seed); jaxlung train takes several."
        )
    module_spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem, name)
    if module_spec is None or module_spec.loader is None:
        raise ValueError(f"{name}: want a Python file, with a name that ends in .py.")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return getattr(module, function)(arg)
    except config_arg.UnknownVariantError as error:
        if function != "get_config":
            raise
        raise ValueError(f"{str(error).removesuffix('.')}, or seeds=N for several runs.") from error
    except ValueError:
        raise
    except Exception as error:  # A user's own file may raise anything.
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error


def load_shipped(name: str, **flags: bool) -> mlc.ConfigDict:
    """Returns a config that jaxlung ships, for a file that changes some of its fields.

    The file may lie anywhere: the config comes from the installed jaxlung, or from its checkout.

    Args:
        name: name of the config, such as "covidqu".
        **flags: variants of the config that are true or false, such as `phantom` and `quick`.
    """
    arg = ",".join(flag for flag, is_set in flags.items() if is_set)
    return load(f"{shipped_configs()[name]}:{arg}")


def default_workdir(spec: str, folder: str = "runs") -> str:
    """Returns `runs/covidqu` for configs/covidqu.py, `runs/covidqu_quick` for its ":quick"."""
    name, _, arg = spec.partition(":")
    words = [pathlib.Path(name).stem, *arg.replace("=", "_").split(",")]
    return f"{folder}/" + "_".join(filter(None, words))


def set_overrides(config: mlc.ConfigDict, overrides: Sequence[str]) -> mlc.ConfigDict:
    """Sets fields of a config from "--config.FIELD=VALUE", as the command line writes them.

    Args:
        config: the config; changed in place.
        overrides: the changes; the last one of a field wins.

    Returns:
        `config`.

    Raises:
        ValueError: the config has no such field, in which case the message names the nearest one;
            or the value has another type.
    """
    for override in overrides:
        name = override.lstrip("-").partition("=")[0]
        if override.startswith("-") and name.startswith("config."):
            require_field(config, name.removeprefix("config."))
    argv = ["jaxlung", *overrides]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
    except flags.Error as error:
        raise ValueError(f"{str(error).removeprefix('flag ')}.") from error
    if rest:
        raise ValueError(f"got {' '.join(rest)!r}, want overrides such as --config.seed=1.")
    return config


def require_field(config: mlc.ConfigDict, name: str) -> None:
    """Raises ValueError if a name such as "data.batch_size" is no field; names the nearest one."""
    node = config
    for depth, part in enumerate(name.split("."), 1):
        if not isinstance(node, mlc.ConfigDict) or part not in node:
            fields = _field_names(config)
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)[0]
            where = ".".join(["config", *name.split(".")[:depth]])
            raise ValueError(f"--{where}: the config has no such field; nearest: --config.{near}.")
        node = node[part]


def _field_names(config: mlc.ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        if isinstance(value, mlc.ConfigDict):
            names += _field_names(value, f"{prefix}{key}.")
        else:
            names.append(f"{prefix}{key}")
    return names
