"""Makes a prepared dataset once, however many runs want it at the same time.

A dataset is made in a hidden folder beside the others and renamed when it is whole, under a lock.
What killed runs left behind is removed by the next one.
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
_RANDOM = "[a-z0-9_]{8}"  # of `tempfile`
# Of TFDS: earlier versions let it make its temporary folder beside the dataset.
_OF_TFDS = re.compile(r"incomplete\.[A-Z0-9]{6}_\d+\.\d+\.\d+")


def is_made(place: pathlib.Path) -> bool:
    """Whether there is anything in the folder of a prepared dataset; it appears whole."""
    return place.is_dir() and any(place.iterdir())


def once(place: pathlib.Path, prepare: Callable[[], None]) -> None:
    """Prepares a dataset unless that was done, waiting for the run that is at it, if one is.

    What killed runs left behind is removed, but for what a living one is making.

    Args:
        place: folder of the dataset, DATA_DIR/NAME/CONFIG/VERSION.
        prepare: makes it.

    Raises:
        OSError: the folder of datasets can't be written, or its disk is full; names it.
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
            if not is_made(place):  # Else another run made it meanwhile.
                with interrupt.clean_up():
                    prepare()


def make(
    make_builder: Callable[..., tfds.core.DatasetBuilder],
    raw_dir: str,
    place: pathlib.Path,
    *,
    quietly: bool,
) -> None:
    """Reads the download into ArrayRecord files; whole or not at all.

    Args:
        make_builder: takes `data_dir` and `raw_dir`.
        raw_dir: the download.
        place: folder to make, DATA_DIR/NAME/CONFIG/VERSION.
        quietly: leave out the builder's remarks; phantoms never have the published counts.

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
    tfds.disable_progress_bar()  # The builder tells its own progress, by images.
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
        if not is_made(place):  # Else, without locks, another run was first: just as well.
            raise


def _lock(place: pathlib.Path) -> pathlib.Path:
    return place.parents[2] / f".{place.parts[-3]}.lock"


def _remains(place: pathlib.Path) -> list[pathlib.Path]:
    """Temporary folders of this dataset and of phantoms, made by us; links are somebody else's."""
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
    """Names the folder where a write fails and doesn't say where."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error
        raise
    except RuntimeError as error:  # ArrayRecord's of a full disk
        for number in _FULL:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(folder)) from error
        raise
