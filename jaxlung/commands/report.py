"""`jaxlung report`: report and model card of a run."""

import argparse
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.host import files

HELP = "write the report and the model card of a run again"
DESCRIPTION = "Writes report.html and MODEL_CARD.md from the files of a run."
EPILOG = """\
jaxlung report runs/covidqu
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "run", metavar="RUN", type=arguments.given, help="folder of an evaluated run"
    )


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Returns the writing of the report."""
    del overrides

    def start() -> int:
        from jaxlung import job

        job.write_report(files.to_absolute(args.run))
        return 0

    return start
