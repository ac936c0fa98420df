"""Silences libraries' warnings about odd files while any thread reads one."""

import contextlib
import ctypes
import functools
import threading
import warnings
from collections.abc import Callable, Iterator

import pydicom
from PIL import Image

_lock = threading.Lock()
_stack = contextlib.ExitStack()
_num_inside = 0


@contextlib.contextmanager
def region() -> Iterator[None]:
    """Silences warnings, pydicom's validation of unused values and libtiff's messages in the body.

    Pillow raises what libtiff would print.

    These settings are the whole process's. The libraries' own context managers would restore them
    while another thread still needs them. So the first thread that enters changes them, and the
    last one that leaves restores them.
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
            if set_handler := _libtiff_setter():
                _stack.callback(set_handler, set_handler(None))
        _num_inside += 1


def _leave() -> None:
    global _num_inside
    with _lock:
        _num_inside -= 1
        if not _num_inside:
            _stack.close()


@functools.cache
def _libtiff_setter() -> Callable[[int | None], int | None] | None:
    """Returns libtiff's function that replaces its error handler; None if Pillow hides it."""
    try:
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return None
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    return set_handler
