"""`jaxlung benchmark`: the speed of a config."""

import argparse
import json
import sys
from collections.abc import Sequence

from jaxlung.commands import arguments

HELP = "measure the speed of a config on this machine"
DESCRIPTION = "Measures input alone, the training step alone, and both together."
EPILOG = """\
jaxlung benchmark --config=covidqu --config.model.dtype=bfloat16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    arguments.add_config(parser)
    parser.add_argument(
        "--profile",
        metavar="DIR",
        type=arguments.given,
        help="write a profiler trace of a few steps to this folder",
    )
    arguments.add_meeting(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Loads the config; returns the measurement."""
    config, _ = arguments.load_config(args, overrides)

    def start() -> int:
        from jaxlung import benchmark
        from jaxlung.parallel import distributed

        found = benchmark.run(config, profile_dir=args.profile or "")
        if distributed.is_main():
            sys.stdout.write(json.dumps(found) + "\n")
        return 0

    return start
