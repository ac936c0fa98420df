"""`jaxlung train`: the whole job of a config."""

import argparse
import json
import sys
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.config import config_file

HELP = "train a config, evaluate it and write its report"
DESCRIPTION = (
    "Trains a network, evaluates it on every split and writes a report. Run the same command "
    "again to resume."
)
EPILOG = f"""\
Set any field of the config with --config.SECTION.FIELD=VALUE.
Shipped configs: {", ".join(config_file.shipped_configs())}.

jaxlung train --config=covidqu:phantom
jaxlung train --config=folder --config.data.root=MY_IMAGES
jaxlung train --config=covidqu --config.data.batch_size=64 --workdir=runs/b64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    arguments.add_config(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="compile the training step, print its cost, stop"
    )
    arguments.add_meeting(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Loads the config; returns the training of it."""
    config, path = arguments.load_config(args, overrides)

    def start() -> int:
        from jaxlung import job
        from jaxlung.benchmark import dry_run

        if args.dry_run:
            sys.stdout.write(json.dumps(dry_run.dry_run(config)) + "\n")
        else:
            job.run(config, path)
        return 0

    return start
