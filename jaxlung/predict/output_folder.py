"""Where predictions may go: not beside their inputs, not into a run, not over anybody's files."""

import os
import pathlib
from collections.abc import Sequence

from etils import epath

from jaxlung import workdir
from jaxlung.predict import inputs, outputs


def require_safe(
    output: pathlib.Path,
    items: Sequence[inputs.Item],
    endings: Sequence[str],
    runs: Sequence[epath.Path],
) -> None:
    """Checks every file that may be written, links resolved, before any is.

    Args:
        output: the folder.
        items: what is predicted on.
        endings: what may be appended to a name, see `settings.endings`.
        runs: the folders of the networks.

    Raises:
        ValueError: a folder of outputs holds inputs or belongs to a run, or there is a file that no
            prediction made.
    """
    # A row of a CSV may be no path at all (too long, a NUL): not for is_dir() or resolve().
    holders = {_holder(item): item.path for item in items if os.path.lexists(item.path)}
    for folder in sorted({output, *((output / item.name).parent for item in items)}):
        workdir.require_outside(folder, runs)
        if beside := holders.get(folder.resolve()):
            raise ValueError(
                f"--output: {folder} is where the input {beside} is; choose a folder of its own."
            )
    if outputs.is_begun(output) or not os.path.lexists(output):
        return  # What is there is of the command that is gone on with, or there is nothing.
    names = (f"{item.name}{ending}" for item in items for ending in endings)
    for name in (*outputs.TABLES, *names):
        if os.path.lexists(output / name):
            raise ValueError(
                f"--output: {output / name} is there already, and no prediction made it; choose "
                "another folder."
            )


def _holder(item: inputs.Item) -> pathlib.Path:
    """The folder that a file is in, or that a series is."""
    return item.path.resolve() if item.path.is_dir() else item.path.parent.resolve()
