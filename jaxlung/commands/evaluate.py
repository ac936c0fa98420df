"""`jaxlung evaluate`: one split of a trained run."""

import argparse
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.host import files

HELP = "score one split of a trained run again"
DESCRIPTION = "Scores one split of a trained run and writes its report again."
EPILOG = """\
jaxlung evaluate --workdir=runs/covidqu --split=test
jaxlung evaluate --workdir=runs/theirs --config.data.data_dir=DATA
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    arguments.add_config(parser)
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="default: test"
    )
    arguments.add_meeting(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Finds the run; returns its evaluation."""
    if args.config is not None:
        config, path = arguments.load_config(args, overrides)
        overrides = ()
    elif args.workdir is not None:
        config, path = None, files.to_absolute(args.workdir)
    else:
        raise ValueError("jaxlung evaluate: want --workdir of a trained run, or --config.")

    def start() -> int:
        from jaxlung import job

        job.run_evaluate(config, path, args.split, overrides)
        return 0

    return start
