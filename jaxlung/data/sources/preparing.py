"""Prepares a dataset once, however many runs need it at the same time.

A dataset is made in a hidden folder beside the others, under a lock, and renamed when it is whole.
The next run removes the temporary folders of runs that were killed.
"""

import contextlib
import errno
import io
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from absl import logging

from jaxlung.data.sources import receipt
from jaxlung.host import folder_lock
from jaxlung.parallel import interrupt

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RANDOM = "[a-z0-9_]{8}"  # `tempfile` puts such a text into names.
# TFDS's temporary folder, which earlier versions of jaxlung had beside the dataset.
_OF_TFDS = re.compile(r"incomplete\.[A-Z0-9]{6}_\d+\.\d+\.\d+")


def is_made(place: pathlib.Path) -> bool:
    """Returns True if a dataset is prepared: its folder, which appears whole, has files."""
    return place.is_dir() and any(place.iterdir())


def once(place: pathlib.Path, prepare: Callable[[], None]) -> None:
    """Prepares a dataset unless it is prepared; waits if another run is preparing it.

    Temporary folders of killed runs are removed, unless another run may be using them.

    Args:
        place: folder of the dataset, DATA_DIR/NAME/CONFIG/VERSION.
        prepare: function that makes it.

    Raises:
        OSError: the folder of datasets can't be written, or its disk is full; names the folder.
    """
    if is_made(place):
        if _remains(place):
            with folder_lock.take_turn_if_free(_lock(place)) as is_alone:
                _remove_remains(place, is_alone)
        return
    folder = place.parents[2]
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with folder_lock.wait_for_turn(_lock(place), f"preparing {place}") as is_alone:
            _remove_remains(place, is_alone)
            if not is_made(place):  # Otherwise another run has made it meanwhile.
                with interrupt.clean_up():
                    prepare()


def make(
    make_builder: Callable[..., tfds.core.DatasetBuilder],
    raw_dir: str,
    place: pathlib.Path,
    *,
    quietly: bool,
) -> None:
    """Writes a download as ArrayRecord files; whole or not at all.

    Args:
        make_builder: function of `data_dir` and `raw_dir` that makes the builder.
        raw_dir: path of the download.
        place: folder to make, DATA_DIR/NAME/CONFIG/VERSION.
        quietly: suppress the builder's log, as phantoms never have the published counts.

    Raises:
        ValueError: a damaged download; names the file.
        OSError: the files can't be written.
    """
    logging.info("preparing %s", place)
    folder, name = place.parents[2], place.parts[-3]
    temporary = tempfile.mkdtemp(prefix=f".{name}-preparing-", dir=folder)
    verbosity = logging.get_verbosity()
    if quietly:
        logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()  # The builder reports progress itself, in images.
    try:
        builder = make_builder(data_dir=temporary, raw_dir=raw_dir)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints.
            builder.download_and_prepare(file_format="array_record")
        receipt.write(pathlib.Path(builder.data_path), raw_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        _rename(pathlib.Path(builder.data_path), place)
    finally:
        logging.set_verbosity(verbosity)
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(made: pathlib.Path, place: pathlib.Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not is_made(place):  # Otherwise, without locks, another run was first, which is fine.
            raise


def _lock(place: pathlib.Path) -> pathlib.Path:
    return place.parents[2] / f".{place.parts[-3]}.lock"


def _remains(place: pathlib.Path) -> list[pathlib.Path]:
    """Returns jaxlung's temporary folders of this dataset and of phantoms; no links."""
    ours = re.compile(rf"\.({re.escape(place.parts[-3])}-preparing|raw)-{_RANDOM}")
    found = [path for path in _entries(place.parents[2]) if ours.fullmatch(path.name)]
    found += [path for path in _entries(place.parent) if _OF_TFDS.fullmatch(path.name)]
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove_remains(place: pathlib.Path, is_alone: bool) -> None:
    for path in _remains(place) if is_alone else ():
        logging.info("removing %s, which a killed run left behind", path)
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _naming(folder: pathlib.Path) -> Iterator[None]:
    """Adds the folder to errors of writing that name no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error
        raise
    except RuntimeError as error:  # ArrayRecord raises this for a full disk.
        for number in _FULL:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(folder)) from error
        raise
