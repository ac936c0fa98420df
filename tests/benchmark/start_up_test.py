"""The age of a process, and laps."""

import subprocess
import sys
import time

from jaxlung.benchmark import start_up


def test_a_process_knows_its_age():
    path = start_up.__file__
    code = (
        "import importlib.util, time; time.sleep(0.3);"
        f"spec = importlib.util.spec_from_file_location('x', {path!r});"
        "x = importlib.util.module_from_spec(spec); spec.loader.exec_module(x);"
        "print(x.process_age())"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The kernel counts in hundredths of a second.
    assert 0.3 - 0.02 < float(done.stdout) < time.monotonic() - start + 0.02


def test_laps_are_the_time_between(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(start_up.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(start_up, "process_age", lambda: 2.5)
    clock = start_up.Clock()
    now[0] = 11.0
    clock.lap("data")
    now[0] = 14.0
    clock.lap("state")
    assert clock.seconds == {"process": 2.5, "data": 1.0, "state": 3.0}
