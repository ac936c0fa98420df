"""Libraries' warnings about odd files, held back while any thread reads one."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

import pydicom

_lock = threading.Lock()
_stack = contextlib.ExitStack()
_num_inside = 0


@contextlib.contextmanager
def region() -> Iterator[None]:
    """Inside, warnings are ignored, and pydicom doesn't validate values that nobody reads.

    Both are settings of the whole process, which each library's own context manager would put
    back while another thread still wants them: the first one in makes them, the last one out
    undoes them.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _num_inside
    with _lock:
        if not _num_inside:
            _stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _stack.enter_context(pydicom.config.disable_value_validation())
        _num_inside += 1


def _leave() -> None:
    global _num_inside
    with _lock:
        _num_inside -= 1
        if not _num_inside:
            _stack.close()
