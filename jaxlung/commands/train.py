"""`jaxlung train`: the whole job of a config."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

import ml_collections as mlc
from etils import epath

from jaxlung.commands import arguments
from jaxlung.config import config_arg, config_file
from jaxlung.host import files
from jaxlung.study import study as study_lib
from jaxlung.study import study_file

PROGRAMS = ("train", "validate", "evaluate", "predict")
HELP = "train a config, evaluate it and write its report"
DESCRIPTION = (
    "Trains a network, evaluates it on every split and writes a report. With folds=K or seeds=N "
    "after the config's name, trains one per fold or seed and writes a table of them. Run the same "
    "command again to resume."
)
EPILOG = f"""\
Set any field of the config with --config.SECTION.FIELD=VALUE.
Shipped configs: {", ".join(config_file.shipped_configs())}.

jaxlung train --config=covidqu:phantom
jaxlung train --config=folder --config.data.root=MY_IMAGES
jaxlung train --config=folder:folds=5 --config.data.root=MY_IMAGES
jaxlung train --config=cxr_lungs:seeds=4
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
    arguments.add_sharing(parser)
    arguments.add_meeting(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Loads the config; returns the training of it, or of its folds and seeds."""
    if args.target and not args.dry_run:
        raise ValueError("jaxlung train: --target: want --dry_run too; nothing can run there.")
    study, configs, path = load(args, overrides)
    config = next(iter(configs.values()))  # A dry run is of one run; all have the same cost.
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
        elif study:
            from jaxlung.study import runner

            runner.run(
                study, configs, path, devices_per_run=args.devices_per_run, at_once=args.at_once
            )
        else:
            job.run(config, path)
        return 0

    return start


def load(
    args: argparse.Namespace, overrides: Sequence[str]
) -> tuple[study_lib.Study | None, Mapping[str, mlc.ConfigDict], epath.Path]:
    """Returns the study of a config's folds and seeds, or None; the configs; the folder."""
    spec = arguments.require_config(args)
    name, _, arg = spec.partition(":")
    repeats = config_arg.split_repeats(arg)
    if not repeats.kinds:
        if args.devices_per_run or args.at_once:
            raise ValueError(
                "--devices_per_run, --at_once: want folds=K or seeds=N after the config's name, "
                "too; a single run uses all devices."
            )
        config, path = arguments.load_config(args, overrides)
        return None, {name: config}, path
    if args.coordinator is not None:
        raise ValueError(
            f"--coordinator: got it with {' and '.join(repeats.kinds)}, whose runs are processes "
            "of their own; want one of the two."
        )
    args.is_study = not args.dry_run
    study = study_file.from_config(spec)
    default = config_file.default_workdir(":".join([name, ",".join([repeats.arg, *repeats.kinds])]))
    path = files.to_absolute(args.workdir or default)
    if (path / "config.json").exists():
        raise ValueError(
            f"--workdir: {path} is the folder of one run, want another one for {repeats.number}."
        )
    return study, study_file.make_configs(study, path, overrides), path
