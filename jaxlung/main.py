"""The command line: `python -m jaxlung.main --config=configs/covidqu.py`, or `jaxlung ...`."""

import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

import ml_collections as mlc
from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from jaxlung.config import config_file
from jaxlung.host import console, files
from jaxlung.parallel import cluster as cluster_lib
from jaxlung.parallel import interrupt
from jaxlung.study import study as study_lib
from jaxlung.study import study_file

FLAGS = flags.FLAGS

config_flags.DEFINE_config_file("config", None, "Config file, or the name of a shipped one.")
flags.DEFINE_string("study", None, "Study file, or the name of a shipped one.")
flags.DEFINE_multi_string(
    "workdir",
    None,
    "Folder of the run; runs/<name of the config> or studies/<name> by default. To predict: again "
    "for each network.",
)
MODES = ("train", "evaluate", "predict", "export", "report", "benchmark", "study")
flags.DEFINE_enum("mode", "train", MODES, "What to do.")
flags.DEFINE_string("input", None, "To predict: file, folder, glob, DICOM series or CSV of paths.")
flags.DEFINE_string(
    "output", None, "To predict: folder for masks. To export: the file; *.onnx is ONNX."
)
flags.DEFINE_bool("probs", False, "To predict: write probabilities too.")
flags.DEFINE_bool("overlay", False, "To predict: draw the masks over the pictures.")
flags.DEFINE_bool("dicom_seg", False, "To predict: masks of DICOM series as DICOM SEG too.")
flags.DEFINE_bool("mirror", False, "To predict: also look at mirror images, and take the mean.")
flags.DEFINE_bool("resume", False, "To predict: go on with what the output folder holds.")
flags.DEFINE_integer("max_pixels", 100_000_000, "To predict: refuse larger pictures.", 1)
flags.DEFINE_integer("max_voxels", 1_000_000_000, "To predict: refuse larger volumes.", 1)
flags.DEFINE_string("split", "test", "The split to evaluate: train, validation or test.")
flags.DEFINE_bool("dry_run", False, "Compile the step, say what it costs, train nothing.")
flags.DEFINE_string("profile", None, "Of a benchmark: folder for a trace of some steps.")
flags.DEFINE_string("coordinator", None, "Of several processes: HOST:PORT of process 0.")
flags.DEFINE_integer("num_processes", None, "Of several processes: how many.")
flags.DEFINE_integer("process_id", None, "Of several processes: which one this is, from 0.")
flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


# Flags that belong to some modes.
OPTIONS = ("probs", "overlay", "dicom_seg", "max_pixels", "max_voxels")  # of settings.Options
PREDICTING = ("input", *OPTIONS, "mirror", "resume")
MEETING = ("coordinator", "num_processes", "process_id")
MODES_OF = {
    "split": ("evaluate",),
    "profile": ("benchmark",),
    "study": ("study",),
    "output": ("predict", "export"),
    **dict.fromkeys(PREDICTING, ("predict",)),
    **dict.fromkeys(MEETING, ("train", "evaluate", "benchmark")),
}
# Modes that need a run's folder alone, and what else they need.
OF_A_RUN = {"predict": ("input", "output"), "export": ("output",), "report": ()}

# In what XLA says when a collective or the coordinator does not answer.
PEER_GONE = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "coordination")


@dataclasses.dataclass(frozen=True)
class Command:
    """What was typed, looked at.

    Attributes:
        path: the workdir, absolute.
        study: None but for `--mode=study`.
        configs: of the study's runs, by name.
        overrides: fields of the run's own config to set, to evaluate: "--config.FIELD=VALUE".
        cluster: where this process meets others; None alone.
    """

    path: epath.Path
    study: study_lib.Study | None = None
    configs: Mapping[str, mlc.ConfigDict] = dataclasses.field(default_factory=dict)
    overrides: Sequence[str] = ()
    cluster: cluster_lib.Cluster | None = None


def cli() -> None:
    """Runs the command line and exits with `main`'s code."""
    console.quiet_late_writes()
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Runs one command line.

    Args:
        argv: program name and arguments.

    Returns:
        The exit code: 0 done, or stopped by a signal after saving; 1 failed; 2 usage; 3 some of
        the files that were to be predicted failed. A signal where there is nothing to save exits
        with 130.
    """
    console.quiet_libraries()
    if {"--help", "-h"} & set(argv):
        sys.stdout.write(usage())
        return 0
    try:
        command = parse(argv)
    except (flags.Error, ValueError) as error:
        return console.complain(error, 2, debug=any(arg.startswith("--debug") for arg in argv))
    try:
        with interrupt.stop_at_once():
            return run(command)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        code = console.complain(explain(error, command), 1, debug=FLAGS.debug)
        if command.cluster:
            os._exit(code)  # Else it would wait for the other processes to end.
        return code
    except KeyboardInterrupt:
        interrupt.exit_at_once(0, None)  # Files are cleaned up; XLA's threads may be at work.
    return 0


def explain(error: Exception, command: Command) -> Exception:
    """The error as a user can use it.

    Raises:
        RuntimeError: that is none of the user's or the machine's.
    """
    if not isinstance(error, RuntimeError):
        return error
    if "RESOURCE_EXHAUSTED" in str(error):
        return MemoryError(
            "the device has too little memory; try a smaller --config.data.batch_size, "
            "--config.step.remat=True, --config.step.microbatches=2, --config.data.placement=host, "
            "or --config.model.dtype=bfloat16."
        )
    if command.cluster and any(sign in str(error) for sign in PEER_GONE):
        return ConnectionError(
            f"another process of this run is gone ({str(error).splitlines()[0][:200]}); what was "
            "saved is whole, and the same commands, in all processes, go on from there."
        )
    raise error


def parse(argv: Sequence[str]) -> Command:
    """Parses flags and looks at them together.

    Raises:
        flags.Error, ValueError: what the user typed can't be.
    """
    require_values(argv)
    argv, spec = config_file.resolve_argument(argv)
    overrides = []
    if spec:
        config_file.check_overrides(config_file.load(spec), argv)
    else:  # The flags of a config are not there: a study's runs take them later.
        argv, overrides = split_overrides(argv)
    rest = FLAGS(argv)[1:]
    if rest:
        raise ValueError(f"got {' '.join(rest)!r}, want only flags such as --config=FILE.")
    check_modes()
    if FLAGS.mode == "study":
        check_study(spec)
        return parse_study(config_file.resolve(FLAGS.study, "study"), overrides)
    if FLAGS.mode in OF_A_RUN:
        check_run_mode(bool(spec or overrides))
        return Command(workdir_path(spec))
    sets_unknown = overrides and FLAGS.mode != "evaluate"
    if not spec and (FLAGS.mode == "train" or FLAGS.workdir is None or sets_unknown):
        raise ValueError(
            f"want --config=FILE or a name ({', '.join(config_file.shipped_configs())})"
            + ("." if FLAGS.mode == "train" or sets_unknown else ", or --workdir of a trained run.")
        )
    if not spec and FLAGS.dry_run:
        raise ValueError("--dry_run: want --config=FILE too.")
    if not spec and FLAGS.mode == "benchmark":
        raise ValueError("--mode=benchmark: want --config=FILE too.")
    if FLAGS.dry_run and FLAGS.mode != "train":
        raise ValueError(f"--dry_run: got --mode={FLAGS.mode} too, want only one of them.")
    return Command(workdir_path(spec), cluster=find_cluster(), overrides=overrides)


def require_values(argv: Sequence[str]) -> None:
    """Raises ValueError if a flag is given nothing; fields of the config may be empty."""
    for before, argument in itertools.pairwise(argv):
        name, equals, value = argument.partition("=")
        if not argument.strip():
            name, equals, value = before, "=", ""  # --input ""
        if equals and not value.strip() and not name.lstrip("-").startswith("config."):
            raise ValueError(f"{name}: got nothing, want a value; is a shell variable unset?")


def find_cluster() -> cluster_lib.Cluster | None:
    """Where this process meets the others of its run."""
    return cluster_lib.find(os.environ, FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without those like `--config.FIELD=VALUE`, and these."""
    overrides = [arg for arg in argv if arg.startswith(("--config.", "-config."))]
    return [arg for arg in argv if arg not in overrides], overrides


def check_modes() -> None:
    """Raises ValueError if a flag is given that its mode knows nothing of."""
    for name, modes in MODES_OF.items():
        if FLAGS[name].present and FLAGS.mode not in modes:
            raise ValueError(f"--{name}: want --mode={' or '.join(modes)} too.")
    if len(FLAGS.workdir or ()) > 1 and FLAGS.mode != "predict":
        raise ValueError(f"--workdir: got {len(FLAGS.workdir)}, want one with --mode={FLAGS.mode}.")


def check_run_mode(has_config: bool) -> None:
    """Raises ValueError if a mode that takes a run's folder has less or more."""
    if has_config:
        raise ValueError(f"--mode={FLAGS.mode}: got --config too; the run's folder knows it.")
    for name in ("workdir", *OF_A_RUN[FLAGS.mode]):
        if FLAGS[name].value is None:
            raise ValueError(f"--mode={FLAGS.mode}: want --{name} too.")
    if FLAGS.dry_run:
        raise ValueError(f"--dry_run: got --mode={FLAGS.mode} too, want only one of them.")


def check_study(spec: str) -> None:
    """Raises ValueError if a study's flags don't go together."""
    if FLAGS.study is None:
        shipped = ", ".join(config_file.shipped_studies())
        raise ValueError(f"--mode=study: want --study=FILE or a name ({shipped}) too.")
    if spec:
        raise ValueError("--study: got --config too; a study names the configs of its runs.")
    if FLAGS.dry_run:
        raise ValueError("--dry_run: got --mode=study too, want only one of them.")


def parse_study(spec: str, overrides: Sequence[str]) -> Command:
    """A study's command; every run's config is made, so that a slip in one is told now."""
    path = workdir_path(spec, "studies")
    study = study_file.load(spec)
    return Command(path, study, study_file.make_configs(study, path, overrides))


def usage() -> str:
    """What `--help` shows."""
    names = ("config", "study", "workdir", "mode", "split", "dry_run", "profile")
    names += ("output", *PREDICTING, *MEETING, "debug")
    lines = [f"  --{name:13} {FLAGS[name].help}" for name in names]
    configs = ", ".join(config_file.shipped_configs())
    studies = ", ".join(config_file.shipped_studies())
    return "\n".join(
        [
            "python -m jaxlung.main --config=FILE_OR_NAME [--config.SECTION.FIELD=VALUE ...]",
            "python -m jaxlung.main --mode=predict --workdir=RUN --input=PATH --output=FOLDER",
            "python -m jaxlung.main --mode=export --workdir=RUN --output=FILE",
            "python -m jaxlung.main --mode=study --study=FILE_OR_NAME [--config.FIELD=VALUE ...]",
            *lines,
            f"Shipped configs: {configs}. Each file says what its fields are.",
            f"Shipped studies: {studies}. Fields that are set go to every run of a study.",
            "",
        ]
    )


def workdir_path(spec: str, folder: str = "runs") -> epath.Path:
    """The run's folder, absolute (Orbax wants it so): `--workdir`, or in `folder`, named by `spec`.

    Args:
        spec: resolved, of a config or study.
        folder: where folders are by default.
    """
    return files.to_absolute(
        FLAGS.workdir[0] if FLAGS.workdir else config_file.default_workdir(spec, folder)
    )


def run(command: Command) -> int:
    """Starts what the flags ask for; returns the exit code."""
    # JAX starts here: a typo is told in half a second.
    from jaxlung import benchmark, job
    from jaxlung.benchmark import dry_run
    from jaxlung.host import compile_cache
    from jaxlung.parallel import distributed, sharding
    from jaxlung.study import runner

    compile_cache.use(os.environ)
    use_32_bits()
    if command.cluster:
        distributed.start(command.cluster)
    if FLAGS.mode != "report":  # It needs none.
        sharding.visible_devices()  # If there are none, that is the first thing to say.
    if command.study:
        runner.run(command.study, command.configs, command.path)
    elif FLAGS.dry_run:
        sys.stdout.write(dry_run.to_line(dry_run.dry_run(FLAGS.config)) + "\n")
    elif FLAGS.mode == "benchmark":
        found = benchmark.run(FLAGS.config, profile_dir=FLAGS.profile or "")
        if distributed.is_main():
            sys.stdout.write(benchmark.to_line(found) + "\n")
    elif FLAGS.mode == "evaluate":
        job.run_evaluate(FLAGS.config, command.path, FLAGS.split, command.overrides)
    elif FLAGS.mode in OF_A_RUN:
        return run_on_a_run(command.path)
    else:
        job.run(FLAGS.config, command.path)
    return 0


def use_32_bits() -> None:
    """Turns off what `JAX_ENABLE_X64` turns on: runs are of 32 bits, and equal wherever made."""
    import jax

    if jax.config.jax_enable_x64:
        logging.info("JAX_ENABLE_X64 is set; jaxlung computes in 32 bits all the same")
        jax.config.update("jax_enable_x64", False)


def run_on_a_run(path: epath.Path) -> int:
    """Predicts, exports or reports with a trained run; returns the exit code."""
    from jaxlung import job
    from jaxlung.export import writer as export
    from jaxlung.predict import runner, settings

    if FLAGS.mode == "predict":
        output = pathlib.Path(FLAGS.output).expanduser()
        return runner.run(
            [files.to_absolute(one) for one in FLAGS.workdir],
            FLAGS.input,
            settings.Options(output, **{name: FLAGS[name].value for name in OPTIONS}),
            mirror=FLAGS.mirror,
            resume=FLAGS.resume,
        )
    if FLAGS.mode == "export":
        export.export(path, pathlib.Path(FLAGS.output).expanduser())
    else:
        job.write_report(path)
    return 0


if __name__ == "__main__":
    cli()
