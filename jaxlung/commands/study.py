"""`jaxlung study`: several runs and their table."""

import argparse
from collections.abc import Sequence

from jaxlung.commands import arguments
from jaxlung.config import config_file
from jaxlung.host import files
from jaxlung.study import study_file

HELP = "run several configs and compare them in one table"
DESCRIPTION = (
    "Runs the configs that a study lists, as many at once as there are devices for, and compares "
    "them in one table. Run the same command again to resume. Several commands, also on several "
    "machines, may work on the same folder."
)
EPILOG = f"""\
--config.SECTION.FIELD=VALUE sets a field of every run.
Shipped studies: {", ".join(config_file.shipped_studies())}.

jaxlung study covidqu_losses:phantom
jaxlung study ct_folds --config.epochs=100 --workdir=studies/folds
jaxlung study ct_ablation:seeds=5 --devices_per_run=2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "study", metavar="NAME", type=arguments.given, help="study file, or name of a shipped one"
    )
    parser.add_argument(
        "--workdir", metavar="DIR", type=arguments.given, help="default: studies/NAME"
    )
    arguments.add_sharing(parser)


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Makes the config of every run; returns the runs."""
    spec = config_file.resolve(args.study, "study")
    path = files.to_absolute(args.workdir or config_file.default_workdir(spec, "studies"))
    study = study_file.load(spec)
    configs = study_file.make_configs(study, path, overrides)

    args.is_study = True

    def start() -> int:
        from jaxlung.study import runner

        runner.run(study, configs, path, devices_per_run=args.devices_per_run, at_once=args.at_once)
        return 0

    return start
