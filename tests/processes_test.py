"""Several processes as one run: the same numbers as one process, and a stop that loses nothing."""

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from launch import local
from tests import killed_test

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the data, prepared by whoever comes first, and the runs."""
    return tmp_path_factory.mktemp("runs")


def command(path, *args):
    config = ["--config=covidqu:quick", "--config.epochs=3", "--config.log_every_steps=1"]
    data = f"--config.data.data_dir={path.parent / 'data'}"
    return [sys.executable, "-m", "jaxlung.main", *config, data, f"--workdir={path}", *args]


def start(path, process_id, num_processes, port, *args):
    """One of the processes, on one device each."""
    env = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // num_processes}",
        "JAX_PLATFORMS": "cpu",
    }
    where = [f"--coordinator=localhost:{port}", f"--num_processes={num_processes}"]
    where = [*where, f"--process_id={process_id}"] if num_processes > 1 else []
    return subprocess.Popen(
        command(path, *where, *args),
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def start_all(path, num_processes, *args):
    port = local.free_port()
    return [start(path, i, num_processes, port, *args) for i in range(num_processes)]


def finish(processes):
    """Exit codes and what was said, of all."""
    said = [process.communicate(timeout=600)[1] for process in processes]
    return [process.returncode for process in processes], said


def rows_of(path):
    with (path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_run(path, want_path):
    """The same losses and scores, but for float32 sums that are taken in another order."""
    got, want = rows_of(path), rows_of(want_path)
    assert [row["step"] for row in got] == [row["step"] for row in want]
    for name in ("loss", "val_loss", "val_iou_macro"):
        values = [[float(row[name]) for row in rows] for rows in (got, want)]
        np.testing.assert_allclose(*values, rtol=1e-4)
    for split in ("train", "validation", "test"):
        got, want = (
            json.loads((folder / f"summary_{split}.json").read_text())["scores"]
            for folder in (path, want_path)
        )
        assert got.keys() == want.keys()
        for name in ("loss", "mse", "mae"):
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4)


@pytest.fixture(scope="module")
def whole_run(folder):
    """By one process with four devices."""
    path = folder / "whole"
    codes, said = finish(start_all(path, 1))
    assert codes == [0], said
    return path


def test_what_two_processes_saved_at_sigterm_goes_on_in_two_in_one_and_in_four(folder, whole_run):
    path = folder / "two"
    processes = start_all(path, 2)
    killed_test.wait_for_checkpoint(processes[0], path)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    codes, said = finish(processes)
    assert codes == [0, 0], said
    assert "run the same command to resume" in said[0]
    assert not (path / "finished.txt").exists()
    for count in (2, 1, 4):
        copy = folder / f"on_{count}"
        shutil.copytree(path, copy)
        placement = "host" if count == 4 else "device"
        codes, said = finish(start_all(copy, count, f"--config.data.placement={placement}"))
        assert codes == [0] * count, said
        assert "resuming from step" in said[0]
        assert_same_run(copy, whole_run)


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_ends_and_the_same_command_goes_on(folder, whole_run, killed):
    path = folder / f"killed_{killed}"
    processes = start_all(path, 2)
    killed_test.wait_for_checkpoint(processes[0], path)
    processes[killed].kill()
    codes, said = finish(processes)
    other = 1 - killed
    assert codes[killed] == -signal.SIGKILL
    assert codes[other] != 0
    if codes[other] == 1:  # XLA noticed it in a collective.
        assert "another process of this run is gone" in said[other]
    else:  # The coordinator's clients noticed it, who end the process themselves.
        assert "another task died" in said[other]
    codes, said = finish(start_all(path, 2))
    assert codes == [0, 0], said
    assert_same_run(path, whole_run)
