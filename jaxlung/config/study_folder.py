"""The folder of a study: which runs belong to it, for those who use its networks together."""

import json
from collections.abc import Mapping, Sequence

from etils import epath

from jaxlung.config import run_files
from jaxlung.host import files

FILE = "study.json"  # Written before the first run starts.
RUNS = "runs"  # folder inside the study's folder that has a folder for each run
_MOST_NAMES = 5  # in a message


def write(path: epath.Path, groups: Mapping[str, str]) -> None:
    """Writes which runs a study has.

    Args:
        path: the study's folder.
        groups: name of a run -> name of its group, "" for none.
    """
    runs = [{"name": name, "group": group} for name, group in groups.items()]
    files.write_text(path / FILE, json.dumps({"runs": runs}, indent=2) + "\n")


def is_study(path: epath.Path) -> bool:
    """Returns True for the folder of a study, also of a finished one of an earlier version."""
    return (path / FILE).is_file() or (path / "study.csv").is_file()


def members(path: epath.Path) -> list[epath.Path]:
    """Returns the folders of the runs that are one ensemble; of anything but a study, itself.

    The runs of a study are an ensemble if they are one group: its folds, its seeds, or both.

    Args:
        path: folder of a study or a run, or an exported file.

    Raises:
        ValueError: the study compares runs, has unfinished ones, or isn't readable.
    """
    if not is_study(path):
        return [path]
    groups = load(path)
    found = [path / RUNS / name for name in groups]
    if len(set(groups.values())) > 1 or "" in groups.values():
        raise ValueError(
            f"{path}: a study that compares runs, which are no ensemble; want one of its runs, "
            f"such as {found[0]}, or several with a --model each."
        )
    missing = [run.name for run in found if not (run / run_files.FINISHED).exists()]
    if missing:
        raise ValueError(
            f"{path}: has unfinished runs, {len(missing)} of {len(found)} ({_list(missing)}); "
            "run its command again to finish them, or name finished runs with a --model each."
        )
    return found


def load(path: epath.Path) -> dict[str, str]:
    """Returns name -> group of the runs of a study.

    Raises:
        ValueError: an earlier version made the study, or its `study.json` is damaged.
    """
    file = path / FILE
    if not file.is_file():
        raise ValueError(
            f"{path}: a study of an earlier version, which doesn't say which runs belong together; "
            "run its command again, which trains nothing that is finished, or name a run of it, "
            f"such as {_first(path / RUNS)}."
        )
    content = run_files.load_json(file)
    runs = content.get("runs")
    if not isinstance(runs, list) or not runs or not all(map(_is_entry, runs)):
        raise ValueError(f"{file}: want runs with name and group, got {runs!r:.60}.")
    return {run["name"]: run["group"] for run in runs}


def _is_entry(run: object) -> bool:
    return (
        isinstance(run, dict)
        and isinstance(run.get("name"), str)
        and isinstance(run.get("group"), str)
        and run["name"] == epath.Path(run["name"]).name
    )


def _first(folder: epath.Path) -> epath.Path:
    runs = sorted(path for path in folder.iterdir() if (path / "config.json").exists())
    return runs[0] if runs else folder / "NAME"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
