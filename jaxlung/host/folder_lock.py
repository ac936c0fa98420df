"""One process at a time, where several would make the same files."""

import contextlib
import errno
import fcntl
import pathlib
from collections.abc import Iterator

from absl import logging

# What file systems without locks answer.
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def wait_for_turn(file: pathlib.Path, what: str) -> Iterator[bool]:
    """Runs the body while no other process runs it, after waiting for the one that does.

    The kernel holds the lock and releases it when the process ends, even by kill -9.

    Args:
        file: of the lock; made if there is none, and never removed.
        what: that others do, for the line that says who is waited for.

    Yields:
        Whether others are kept out; False on a file system without locks.

    Raises:
        OSError: the file can't be opened for writing; names it.
    """
    with open(file, "a") as lock:
        try:
            if not _try(lock.fileno()):
                logging.info("another run is %s; waiting for it", what)
                fcntl.flock(lock, fcntl.LOCK_EX)
            alone = True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logging.warning("%s: no locks here; start one run at a time", file.parent)
            alone = False
        yield alone


@contextlib.contextmanager
def take_turn_if_free(file: pathlib.Path) -> Iterator[bool]:
    """Runs the body at once; yields whether no other process runs it, as far as can be told."""
    with contextlib.ExitStack() as stack:
        try:
            is_alone = _try(stack.enter_context(open(file, "a")).fileno())
        except OSError:  # A read-only folder, or no locks.
            is_alone = False
        yield is_alone


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
