"""The command line: `jaxlung COMMAND ...`, or `python -m jaxlung.main --config=FILE` to train."""

import argparse
import os
import sys
from collections.abc import Sequence

from absl import flags

from jaxlung.commands import (
    arguments,
    benchmark,
    evaluate,
    export,
    models,
    predict,
    report,
    study,
    train,
)
from jaxlung.host import console
from jaxlung.parallel import backend, interrupt
from jaxlung.parallel import cluster as cluster_lib

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "models": models,
    "export": export,
    "report": report,
    "study": study,
    "benchmark": benchmark,
}
WITHOUT_DEVICES = ("models", "report")  # Commands that read files only.
OVERRIDES = ("--config.", "--noconfig.", "-config.", "-noconfig.")


def cli() -> None:
    """Runs the command line and exits with the code that `main` returns."""
    console.quiet_late_writes()
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Runs one command line.

    Args:
        argv: program name and arguments.

    Returns:
        The exit code: 0 done, or stopped by a signal after saving; 1 failed; 2 bad command line;
        3 some of the files to predict failed. A signal exits with 130 when there is nothing to
        save.
    """
    console.quiet_libraries()
    flags.FLAGS.mark_as_parsed()  # Orbax reads its own absl flags.
    debug = "--debug" in argv
    try:
        args, start = parse(argv)
        cluster = find_cluster(args)
    except SystemExit:  # Help was printed.
        return 0
    except (flags.Error, ValueError) as error:
        return console.complain(error, 2, debug=debug)
    try:
        with interrupt.stop_at_once():
            if args.command not in WITHOUT_DEVICES:
                backend.start(
                    cluster,
                    only_compile=bool(getattr(args, "target", None)),
                    only_cpu=args.is_study,
                )
            return start()
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        code = console.complain(backend.explain(error, cluster), 1, debug=debug)
        if cluster:
            os._exit(code)  # A normal exit would wait for the other processes.
        return code
    except KeyboardInterrupt:
        interrupt.exit_at_once(0, None)  # Files are cleaned up; XLA's threads may still run.
    return 0


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, arguments.Start]:
    """Parses and checks a command line; nothing here imports JAX.

    Returns:
        The arguments, and a function that does what they ask for.

    Raises:
        flags.Error, ValueError: the command line is wrong.
        SystemExit: help was asked for, and printed.
    """
    typed = list(argv[1:]) or ["--help"]
    if typed[0].startswith("-") and typed[0] not in ("-h", "--help"):
        typed.insert(0, "train")
    overrides = [argument for argument in typed if argument.startswith(OVERRIDES)]
    args = make_parser().parse_args([argument for argument in typed if argument not in overrides])
    if overrides and not ("config" in args or args.command == "study"):
        raise ValueError(
            f"jaxlung {args.command}: got {overrides[0]}, but the config of a trained run is fixed."
        )
    args.is_study = False  # A command may set it: its runs are processes with their own devices.
    return args, COMMANDS[args.command].check(args, overrides)


def make_parser() -> arguments.Parser:
    """Returns the parser of all commands."""
    parser = arguments.Parser(
        prog="jaxlung",
        description="Segments lungs and lung infections on chest X-rays and CT. Not a medical "
        "device.",
        epilog="`jaxlung COMMAND --help` explains a command. Without COMMAND it is train.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name, help=module.HELP, description=module.DESCRIPTION, epilog=module.EPILOG
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def find_cluster(args: argparse.Namespace) -> cluster_lib.Cluster | None:
    """Returns where this process meets the others of its run; None for commands of one process."""
    if "coordinator" not in args or args.is_study:
        return None
    return cluster_lib.find(os.environ, args.coordinator, args.num_processes, args.process_id)


if __name__ == "__main__":
    cli()
