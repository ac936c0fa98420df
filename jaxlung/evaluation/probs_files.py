"""Probabilities of single images as files of 8 bits, in which 255 stands for 1.

Images are PNG at their stored size, so that they lie pixel on pixel on the image. CTs are NIfTI on
the grid of their file.
"""

import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from etils import epath

from jaxlung.data import record
from jaxlung.host import files
from jaxlung.image import image_file, png_file
from jaxlung.tasks import task as task_lib
from jaxlung.volume import grid, nifti

FOLDER = "probs_test"  # in the folder of a run that tests a fold
PNG, NIFTI = ".png", ".nii.gz"
LONGEST_NAME = 255  # bytes


def ending(task: task_lib.Task) -> str:
    """Returns the ending of the files' names: that of pictures or of volumes."""
    return NIFTI if task.records == "volumes" else PNG


def name_file(image_id: str, suffix: str) -> str:
    """Returns the path of an image's file below a folder: its id, with `suffix` if it lacks it.

    The ids of a CSV's images may be absolute paths; these become paths below the folder, too. A
    name that is too long for file systems with its suffix becomes its SHA-256.
    """
    parts = [x for x in pathlib.PurePosixPath(image_id).parts if x not in ("/", "//", "..")]
    *folders, name = parts
    if not name.endswith(suffix):
        name += suffix
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest() + suffix
    return "/".join([*folders, name])


def write(folder: epath.Path, item: record.Record | record.VolumeRecord, probs: np.ndarray) -> None:
    """Writes the probabilities of a record below `folder`.

    Args:
        folder: a folder, which is made.
        item: the record.
        probs: [H, W] float32 in [0, 1] for an image, [D, H, W] for a CT.
    """
    levels = np.rint(probs * np.float32(255)).astype(np.uint8)
    if isinstance(item, record.VolumeRecord):
        file_grid = grid.Grid(item.shape, item.affine)
        path = _place(folder / name_file(item.image_id, NIFTI))
        nifti.write(path, grid.from_canonical(levels, file_grid), file_grid)
    else:
        png_file.write(_place(folder / name_file(item.image_id, PNG)), levels)


def write_mean(paths: Sequence[epath.Path], path: epath.Path) -> None:
    """Writes the mean of files of one image as another such file; a single file is linked.

    Args:
        paths: one file or more, all PNG or all NIfTI.
        path: the file to write, whose folder is made.

    Raises:
        ValueError: the files differ in size, or one can't be read.
    """
    place = _place(path)
    if len(paths) == 1:
        _link(paths[0], place)
        return
    is_volume = path.name.endswith(NIFTI)
    total, file_grid = None, None
    for each in paths:  # One at a time, as a CT may be large.
        if is_volume:
            levels, file_grid = nifti.read(each, str(each))
        else:
            levels = image_file.read_image(each)
        if total is not None and levels.shape != total.shape:
            raise ValueError(
                f"{each}: want the shape {total.shape} of {paths[0]}, got {levels.shape}."
            )
        total = levels.astype(np.uint16) if total is None else total + levels
    assert total is not None
    mean = np.rint(total / len(paths)).astype(np.uint8)
    if file_grid is not None:
        nifti.write(place, mean, file_grid)
    else:
        png_file.write(place, mean)


def _link(source: epath.Path, path: epath.Path) -> None:
    """Makes `path` another name of the file, which takes no room; a copy where links can't be."""
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError:  # Another file system, or one without links.
        files.write_bytes(path, source.read_bytes())


def _place(path: epath.Path) -> epath.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
