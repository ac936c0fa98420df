"""Config and study files: found by path or by name; overrides checked before they are set."""

import ast
import difflib
import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections as mlc

LABELS = {"config": "--config", "study": "NAME"}  # flag -> as the command line calls it
SHIPPED = {"config": "", "study": "studies"}  # flag -> where its files are, inside configs/


def resolve_argument(argv: Sequence[str]) -> tuple[list[str], str]:
    """Resolves `--config=SPEC` (or `--config SPEC`) among arguments.

    Returns:
        The arguments with the file in its place, and the resolved spec or "".

    Raises:
        ValueError: there is no such file.
    """
    argv, spec = list(argv), ""
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name not in ("--config", "-config"):
            continue
        if equals:
            spec = resolve(value)
            argv[index] = f"--config={spec}"
        elif index + 1 < len(argv):
            spec = argv[index + 1] = resolve(argv[index + 1])
    return argv, spec


def resolve(spec: str, flag: str = "config") -> str:
    """Finds the file of `--config=SPEC` or `--study=SPEC`.

    Args:
        spec: "configs/covidqu.py", "covidqu" (a config that jaxlung ships), either with ":ARG".
        flag: a key of `SHIPPED`.

    Returns:
        Path of the file, with ":ARG" if `spec` has one.

    Raises:
        ValueError: there is no such file; lists the shipped ones.
    """
    name, colon, arg = spec.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        shipped = _shipped(flag)
        if name not in shipped:
            raise ValueError(
                f"{LABELS[flag]}: no file {name!r} in {pathlib.Path.cwd()}, and jaxlung ships only "
                f"{', '.join(shipped)}."
            )
        path = shipped[name]
    return f"{path}{colon}{arg}"


def shipped_configs() -> dict[str, pathlib.Path]:
    """Configs by name: those inside an installed wheel, or else the checkout's own folder."""
    return _shipped("config")


def shipped_studies() -> dict[str, pathlib.Path]:
    """Studies by name, from the same place."""
    return _shipped("study")


def _shipped(flag: str) -> dict[str, pathlib.Path]:
    inside = pathlib.Path(__file__).parents[1] / "configs"
    folder = inside if inside.is_dir() else inside.parent.parent / "configs"
    return {path.stem: path for path in sorted((folder / SHIPPED[flag]).glob("*.py"))}


def load(spec: str, function: str = "get_config") -> Any:
    """Runs `get_config` or `get_study` of a resolved `spec`.

    Returns:
        What the function returns: an `mlc.ConfigDict` or a `study.Study`.

    Raises:
        ValueError: the file has no such function, or can't be run; names it.
    """
    name, _, arg = spec.partition(":")
    module_spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem, name)
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        return getattr(module, function)(arg)
    except ValueError:
        raise
    except Exception as error:  # It is a user's own file: any kind of slip.
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error


def default_workdir(spec: str, folder: str = "runs") -> str:
    """`runs/covidqu` for configs/covidqu.py, `runs/covidqu_quick` for its ":quick"."""
    name, _, arg = spec.partition(":")
    words = [pathlib.Path(name).stem, *arg.replace("=", "_").split(",")]
    return f"{folder}/" + "_".join(filter(None, words))


def check_overrides(config: mlc.ConfigDict, argv: Sequence[str]) -> None:
    """Looks at every `--config.FIELD=VALUE` before it is set.

    Raises:
        ValueError: a field that the config doesn't have; names the nearest one.
    """
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name.startswith("config."):
            require_field(config, name.removeprefix("config."))


def set_overrides(config: mlc.ConfigDict, overrides: Sequence[str]) -> None:
    """Sets "--config.FIELD=VALUE" where no config file is named on the command line.

    Raises:
        ValueError: no such field, or a value of another type.
    """
    check_overrides(config, overrides)
    for override in overrides:
        flag, _, text = override.partition("=")
        field = flag.lstrip("-").removeprefix("config.")
        old = functools.reduce(lambda node, part: node[part], field.split("."), config)
        try:
            value = text if isinstance(old, str) else _read(text)
            config.update_from_flattened_dict({field: value})
        except (ValueError, SyntaxError, TypeError) as error:
            kind = type(old).__name__
            raise ValueError(f"{flag}: got {text!r}, want a value of type {kind}.") from error


def _read(text: str) -> Any:
    """Returns the value that is written as "3", "1e-4", "(64, 128)" or "true"."""
    words = {"true": True, "false": False}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def require_field(config: mlc.ConfigDict, name: str) -> None:
    """Raises ValueError if `name`, "data.batch_size", is no field; names the nearest one."""
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
