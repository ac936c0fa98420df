"""`jaxlung train`: the whole job of a config."""

import argparse
import json
import sys
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.config import config_file

PROGRAMS = ("train", "validate", "evaluate", "predict")
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
jaxlung train --config=covidqu --dry_run --target=h200
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    arguments.add_config(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="compile the training step, print its cost, stop"
    )
    parser.add_argument(
        "--target",
        metavar="DEVICE",
        type=arguments.given,
        help="with --dry_run: compile for devices that aren't here, such as h200, h100, a100, "
        "h200:8, v5e:2x2, v6e:4x4 or v5p:2x2x1, and print memory, traffic and collectives",
    )
    parser.add_argument(
        "--programs",
        metavar="NAMES",
        type=arguments.given,
        default=",".join(PROGRAMS),
        help=f"with --target: which to compile of {', '.join(PROGRAMS)}; default: all",
    )
    arguments.add_meeting(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Loads the config; returns the training of it."""
    config, path = arguments.load_config(args, overrides)
    if args.target and not args.dry_run:
        raise ValueError("jaxlung train: --target: want --dry_run too; nothing can run there.")
    programs = args.programs.split(",")
    for name in programs:
        if name not in PROGRAMS:
            raise ValueError(f"--programs: got {name!r}, want some of {', '.join(PROGRAMS)}.")

    def start() -> int:
        from jaxlung import job
        from jaxlung.benchmark import compiled, dry_run, targets

        if args.target:
            found = []
            for each in compiled.run(config, targets.describe(args.target), programs):
                sys.stdout.write(compiled.table(each) + "\n")
                sys.stdout.flush()
                found.append(each)
            sys.stdout.write(json.dumps(found) + "\n")
        elif args.dry_run:
            sys.stdout.write(json.dumps(dry_run.dry_run(config)) + "\n")
        else:
            job.run(config, path)
        return 0

    return start
