"""`jaxlung export`: a trained network as one file."""

import argparse
import pathlib
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.host import files

HELP = "write a trained network as one file"
DESCRIPTION = (
    "Writes a trained network as one file that predicts without jaxlung's code. A name that "
    "ends in .onnx gives ONNX."
)
EPILOG = """\
jaxlung export runs/covidqu model.jaxlung
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("run", metavar="RUN", type=arguments.given, help="folder of a trained run")
    parser.add_argument("file", metavar="FILE", type=arguments.given, help="file to write")


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Returns the export."""
    del overrides

    def start() -> int:
        from jaxlung.export import writer

        writer.export(files.to_absolute(args.run), pathlib.Path(args.file).expanduser())
        return 0

    return start
