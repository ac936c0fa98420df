"""Locks that let one process at a time make the files of a folder."""

import contextlib
import errno
import fcntl
import pathlib
from collections.abc import Iterator
from typing import IO

from absl import logging

# Errors of file systems that have no locks.
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def wait_for_turn(file: pathlib.Path, what: str) -> Iterator[bool]:
    """Waits until no other process holds the lock, then holds it while the body runs.

    The kernel releases the lock when the process ends, even by kill -9.

    Args:
        file: the lock's file; created if missing, and never removed.
        what: what another process does meanwhile, such as "preparing data", for the log.

    Yields:
        True if the lock is held; False on a file system without locks.

    Raises:
        OSError: the file can't be opened for writing; names it.
    """
    with open(file, "a") as lock:
        try:
            if not try_lock(lock):
                logging.info("another run is %s; waiting for it", what)
                fcntl.flock(lock, fcntl.LOCK_EX)
            is_locked = True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logging.warning("%s has no file locks; start one run at a time", file.parent)
            is_locked = False
        yield is_locked


@contextlib.contextmanager
def take_turn_if_free(file: pathlib.Path) -> Iterator[bool]:
    """Runs the body at once; yields True if the lock is held meanwhile, False if it can't be."""
    with contextlib.ExitStack() as stack:
        try:
            is_locked = try_lock(stack.enter_context(open(file, "a")))
        except OSError:  # The folder is read-only, or its file system has no locks.
            is_locked = False
        yield is_locked


def wait_for(file: IO[str] | IO[bytes]) -> None:
    """Locks an open file until it is closed; waits while another process holds the lock."""
    fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: IO[str] | IO[bytes]) -> bool:
    """Locks an open file until it is closed; returns False if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
