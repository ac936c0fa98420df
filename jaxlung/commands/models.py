"""`jaxlung models`: the networks that can be named with `--model`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from etils import epath

from jaxlung.commands import arguments
from jaxlung.config import run_files, shipped, study_folder
from jaxlung.tasks import words

HELP = "list the networks that can predict"
DESCRIPTION = (
    "Lists the trained runs and exported files in a folder, and the networks that come along with "
    "jaxlung, if any. Each can be named with --model."
)
EPILOG = """\
jaxlung models
jaxlung models runs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="runs",
        type=arguments.given,
        help="folder of runs and exported files; default: runs",
    )


def check(args: argparse.Namespace, overrides: Sequence[str]) -> arguments.Start:
    """Returns the listing."""
    del overrides

    def start() -> int:
        for line in describe(pathlib.Path(args.folder).expanduser()):
            sys.stdout.write(f"{line}\n")
        return 0

    return start


def describe(folder: pathlib.Path) -> list[str]:
    """Returns a line for each network: what to name, and what it finds.

    Raises:
        ValueError: a file that comes along is damaged.
    """
    from jaxlung.exported import reader

    rows = []
    for name in shipped.names():
        manifest, _ = reader.read_networks(shipped.resolve(name))
        rows.append((name, _tell(manifest), "comes with jaxlung"))
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / "config.json").is_file():
            rows.append((str(path), *_describe_run(path)))
        elif path.is_file() and path.suffix == shipped.SUFFIX:
            rows.append((str(path), *_describe_file(path)))
        elif study_folder.is_study(epath.Path(path)):
            rows.append((str(path), *_describe_study(epath.Path(path))))
    if not rows:
        return [f"no networks: none comes along, and none is in {folder}."]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{name:{widths[0]}}  {what:{widths[1]}}  {note}" for name, what, note in rows]


def _tell(manifest: dict[str, object]) -> str:
    levels, records = manifest["levels"], manifest["records"]
    assert isinstance(levels, list)
    kind = "CTs" if records == "volumes" else "X-rays"
    return f"{', '.join(levels[1:])} on {kind}"


def _describe_file(path: pathlib.Path) -> tuple[str, str]:
    from jaxlung.exported import reader

    try:
        manifest, networks = reader.read_networks(path)
    except ValueError as error:
        return "unknown", str(error).removeprefix(f"{path}: ")
    several = f"mean of {len(networks)} networks, " if len(networks) > 1 else ""
    return _tell(manifest), f"{several}exported {str(manifest.get('created', ''))[:10]}"


def _describe_study(path: epath.Path) -> tuple[str, str]:
    """Returns what the runs of a study find together, or why they are no ensemble."""
    try:
        members = study_folder.members(path)
    except ValueError as error:
        return "unknown", str(error).removeprefix(f"{path}: ")
    what, note = _describe_run(members[0])
    return what, f"mean of {len(members)} runs; {members[0].name}: {note.removeprefix('run, ')}"


def _describe_run(path: pathlib.Path) -> tuple[str, str]:
    """Returns what a run finds, and how good its network is or what is missing."""
    for split in ("test", "validation"):
        try:
            summary = run_files.load_summary(epath.Path(path), split)
        except ValueError as error:
            return "unknown", str(error)
        if summary is not None:
            found = words.find(summary.task)
            key = found.headlines[0] if found.headlines else ""
            score = summary.scores.get(key)
            number = f", {key} {score:.3f}" if score is not None else ""
            what = f"{', '.join(summary.levels[1:])} on {found.modality}s"
            return what, f"run, {summary.num_images} {found.record}s of {split}{number}"
    return "unknown", "run, not scored yet"
