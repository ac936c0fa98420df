"""Only our own messages reach the terminal."""

import subprocess
import sys

import pytest

# A C extension has no other way to tell of an error in a thread of its own.
CODE = """
from jaxlung.host import console
console.quiet_late_writes()
class Raises:
    def __del__(self):
        raise RuntimeError({message!r})
Raises()
"""


@pytest.mark.parametrize(("message", "is_shown"), [("Event loop is closed", False), ("x", True)])
def test_only_writes_after_a_failed_save_are_dropped(message, is_shown):
    command = [sys.executable, "-c", CODE.format(message=message)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("RuntimeError" in done.stderr) == is_shown
