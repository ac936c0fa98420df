"""`jaxlung export`: a trained network as one file."""

import argparse
import pathlib
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.config import study_folder
from jaxlung.host import files

HELP = "write a trained network as one file"
DESCRIPTION = (
    "Writes a trained network, or the mean of several, as one file that predicts without jaxlung's "
    "code. A name that ends in .onnx gives ONNX."
)
EPILOG = """\
jaxlung export runs/covidqu model.jaxlung
jaxlung export runs/folder_folds mean.jaxlung
jaxlung export --model=runs/fold_0 --model=runs/fold_1 mean.jaxlung
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        type=arguments.given,
        help="folder of a trained run, or of a study, whose runs are averaged",
    )
    parser.add_argument("file", metavar="FILE", type=arguments.given, help="file to write")
    parser.add_argument(
        "--model",
        metavar="RUN",
        action="append",
        default=[],
        type=arguments.given,
        help="folder of a trained run; several are averaged",
    )
    parser.add_argument(
        "--half", action="store_true", help="store weights in 16 bits: half the bytes"
    )


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Returns the export."""
    del overrides
    runs = [args.run] * (args.run is not None) + args.model
    if not runs:
        raise ValueError("RUN: got none, want the folder of a trained run before FILE.")

    def start() -> int:
        from jaxlung.export import writer

        output = pathlib.Path(args.file).expanduser()
        members = [x for run in runs for x in study_folder.members(files.to_absolute(run))]
        writer.export(members, output, half=args.half)
        return 0

    return start
