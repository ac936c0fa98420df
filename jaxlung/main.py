"""The command line: `python -m jaxlung.main --config=configs/covidqu.py`, or `jaxlung ...`."""

import sys
from collections.abc import Sequence

from absl import flags
from etils import epath
from ml_collections import config_flags

from jaxlung import config_file, console, interrupt

FLAGS = flags.FLAGS

config_flags.DEFINE_config_file("config", None, "Config file, or the name of a shipped one.")
flags.DEFINE_string("workdir", None, "Folder of the run; runs/<name of the config> by default.")
flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "What to do.")
flags.DEFINE_string("split", "test", "The split to evaluate: train, validation or test.")
flags.DEFINE_bool("dry_run", False, "Compile the step, say what it costs, train nothing.")
flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def cli() -> None:
    """Runs the command line and exits with `main`'s code."""
    console.quiet_late_writes()
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Runs one command line.

    Args:
        argv: program name and arguments.

    Returns:
        The exit code: 0 done, or stopped by a signal after saving; 1 failed; 2 usage. A signal
        where there is nothing to save exits with 130.
    """
    console.quiet_libraries()
    if {"--help", "-h"} & set(argv):
        sys.stdout.write(usage())
        return 0
    try:
        spec = parse(argv)
    except (flags.Error, ValueError) as error:
        return console.complain(error, 2, debug=any(arg.startswith("--debug") for arg in argv))
    try:
        with interrupt.stop_at_once():
            run(spec)
    except (ValueError, OSError, FloatingPointError) as error:
        return console.complain(error, 1, debug=FLAGS.debug)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return console.complain(
            MemoryError(
                "the device has too little memory; try a smaller --config.data.batch_size, "
                "--config.data.placement=host, or --config.model.dtype=bfloat16."
            ),
            1,
            debug=FLAGS.debug,
        )
    except KeyboardInterrupt:
        interrupt.exit_at_once(0, None)  # Files are cleaned up; XLA's threads may be at work.
    return 0


def parse(argv: Sequence[str]) -> str:
    """Parses flags and looks at them together.

    Returns:
        The resolved `--config`, or "".

    Raises:
        flags.Error, ValueError: what the user typed can't be.
    """
    argv, spec = config_file.resolve_argument(argv)
    if spec:
        config_file.check_overrides(config_file.load(spec), argv)
    rest = FLAGS(argv)[1:]
    if rest:
        raise ValueError(f"got {' '.join(rest)!r}, want only flags such as --config=FILE.")
    if not spec and (FLAGS.mode == "train" or FLAGS.workdir is None):
        raise ValueError(
            f"want --config=FILE or a name ({', '.join(config_file.shipped_configs())})"
            + ("." if FLAGS.mode == "train" else ", or --workdir of a trained run.")
        )
    if not spec and FLAGS.dry_run:
        raise ValueError("--dry_run: want --config=FILE too.")
    if FLAGS.dry_run and FLAGS.mode != "train":
        raise ValueError(f"--dry_run: got --mode={FLAGS.mode} too, want only one of them.")
    if FLAGS["split"].present and FLAGS.mode != "evaluate":
        raise ValueError("--split: want --mode=evaluate too.")
    return spec


def usage() -> str:
    """What `--help` shows."""
    names = ("config", "workdir", "mode", "split", "dry_run", "debug")
    lines = [f"  --{name:8} {FLAGS[name].help}" for name in names]
    shipped = ", ".join(config_file.shipped_configs())
    return "\n".join(
        [
            "python -m jaxlung.main --config=FILE_OR_NAME [--config.SECTION.FIELD=VALUE ...]",
            *lines,
            f"Shipped configs: {shipped}. Each file says what its fields are.",
            "",
        ]
    )


def workdir_path(spec: str) -> epath.Path:
    """The run's folder, absolute (Orbax wants it so): `--workdir`, or named after the config."""
    path = epath.Path(FLAGS.workdir or config_file.default_workdir(spec))
    return path.expanduser().resolve()


def run(spec: str) -> None:
    """Starts what the flags ask for."""
    from jaxlung import dry_run, job  # JAX starts here: a typo is told in half a second.

    path = workdir_path(spec)
    if FLAGS.dry_run:
        sys.stdout.write(dry_run.to_line(dry_run.dry_run(FLAGS.config)) + "\n")
    elif FLAGS.mode == "evaluate":
        job.run_evaluate(FLAGS.config, path, FLAGS.split)
    else:
        job.run(FLAGS.config, path)


if __name__ == "__main__":
    cli()
