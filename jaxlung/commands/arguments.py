"""The parser and the arguments that commands share."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ml_collections as mlc
from etils import epath

from jaxlung.config import config_file
from jaxlung.host import files

Start = Callable[[], int]  # Does the work of a checked command line and returns its exit code.


class Formatter(argparse.RawDescriptionHelpFormatter):
    """The layout of help: wide enough for the longest command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises ValueError and knows no abbreviations."""

    def __init__(self, *, description: str, epilog: str = "", **settings: Any) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=Formatter,
            allow_abbrev=False,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        """Raises the message, which names the argument."""
        raise ValueError(f"{self.prog}: {message}; see --help.")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run: its config and its folder."""
    parser.add_argument(
        "--config", metavar="FILE", type=given, help="config file, or name of a shipped one"
    )
    parser.add_argument(
        "--workdir", metavar="DIR", type=given, help="folder of the run; default: runs/NAME"
    )


def add_meeting(parser: argparse.ArgumentParser) -> None:
    """Adds the flags by which the processes of one run find each other."""
    group = parser.add_argument_group("several processes (found by themselves on Slurm, TPU, MPI)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    group.add_argument("--num_processes", metavar="N", type=int, help="number of processes")
    group.add_argument("--process_id", metavar="I", type=int, help="this process, from 0")


def add_sharing(parser: argparse.ArgumentParser) -> None:
    """Adds the flags by which the runs of a study share the devices of this machine."""
    group = parser.add_argument_group("runs side by side")
    group.add_argument(
        "--devices_per_run",
        metavar="N",
        type=positive,
        help="GPUs or TPU chips of each run whose config names no number; default: 1",
    )
    group.add_argument(
        "--at_once",
        metavar="N",
        type=positive,
        help="runs at once, at most; default: as many as there are GPUs or TPU chips for, and 1 on "
        "CPUs, whose cores they share",
    )


def given(text: str) -> str:
    """Returns an argument's text; an empty one is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("got nothing, want a value; is a shell variable unset?")
    return text


def positive(text: str) -> int:
    """Returns an argument's whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, want a whole number above 0")
    return int(text)


def require_config(args: argparse.Namespace) -> str:
    """Returns the value of `--config`; raises ValueError if it is missing."""
    if args.config is None:
        names = ", ".join(config_file.shipped_configs())
        raise ValueError(f"jaxlung {args.command}: want --config=FILE or a name ({names}).")
    return args.config


def load_config(
    args: argparse.Namespace, overrides: Sequence[str]
) -> tuple[mlc.ConfigDict, epath.Path]:
    """Returns the config with its overrides, and the absolute path of the run's folder."""
    spec = config_file.resolve(require_config(args))
    config = config_file.load(spec)
    config_file.set_overrides(config, overrides)
    return config, files.to_absolute(args.workdir or config_file.default_workdir(spec))
