"""Checks the output folder: not with the inputs, not in a run, and no other files overwritten."""

import os
import pathlib
from collections.abc import Sequence

from etils import epath

from jaxlung.config import workdir
from jaxlung.predict import inputs, outputs


def require_safe(
    output: pathlib.Path,
    items: Sequence[inputs.Item],
    endings: Sequence[str],
    runs: Sequence[epath.Path],
) -> None:
    """Checks all files that may be written, with links resolved, before the first one is.

    Args:
        output: the output folder.
        items: the items to predict on.
        endings: endings that may be appended to their names, see `settings.endings`.
        runs: the folders of the networks.

    Raises:
        ValueError: a folder of outputs holds inputs or lies in a run, or a file there exists that
            no prediction wrote.
    """
    # A row of a CSV may be no path at all (too long, a NUL): not for is_dir() or resolve().
    holders = {_holder(item): item.path for item in items if os.path.lexists(item.path)}
    for folder in sorted({output, *((output / item.name).parent for item in items)}):
        workdir.require_outside("OUTPUT", folder, runs)
        if beside := holders.get(folder.resolve()):
            raise ValueError(
                f"OUTPUT: {folder} holds the input {beside}; choose a folder without inputs."
            )
    if outputs.is_begun(output) or not os.path.lexists(output):
        return  # The folder holds the outputs of the command that is resumed, or doesn't exist.
    names = (f"{item.name}{ending}" for item in items for ending in endings)
    for name in (*outputs.TABLES, *names):
        if os.path.lexists(output / name):
            raise ValueError(
                f"OUTPUT: {output / name} exists, and no prediction wrote it; choose another "
                "folder."
            )


def _holder(item: inputs.Item) -> pathlib.Path:
    """Returns the folder of a series, or the folder that holds a file."""
    return item.path.resolve() if item.path.is_dir() else item.path.parent.resolve()
