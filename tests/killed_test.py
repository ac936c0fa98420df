"""Whole processes, killed and starved: nothing is lost, and the result is the same to the bit."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung.config import workdir
from jaxlung.training import checkpoint, system

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ["--config=configs/covidqu.py:quick", "--config.epochs=10"]


def start(path, *args):
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    data = f"--config.data.data_dir={path.parent / 'data'}"
    command = [sys.executable, "-m", "jaxlung.main", *CONFIG, data, f"--workdir={path}", *args]
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def finish(path, *args):
    process = start(path, *args)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    return stderr


def wait_for_checkpoint(process, path):
    """Returns as soon as an epoch has ended and its checkpoint is whole."""
    for _ in range(6000):
        assert process.poll() is None, "the run ended before it could be killed"
        with contextlib.suppress(FileNotFoundError):
            if any(folder.name.isdigit() for folder in (path / "checkpoints").iterdir()):
                return
        time.sleep(0.02)
    raise TimeoutError


def last_state(path):
    path = epath.Path(path)
    like = system.make_system(workdir.load_config(path)).abstract_state()
    with checkpoint.open_manager(path) as manager:
        state, _ = checkpoint.restore_latest(manager, like)
    return jax.device_get(state)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    finish(path)
    return path


def assert_same(path, whole_run):
    jax.tree.map(np.testing.assert_array_equal, last_state(path), last_state(whole_run))


@pytest.mark.parametrize("placement", ["device", "host"])
def test_kill_9_in_an_epoch_and_the_same_command_give_the_same_parameters(
    whole_run, tmp_path, placement
):
    path, option = tmp_path / "run", f"--config.data.placement={placement}"
    process = start(path, option)
    wait_for_checkpoint(process, path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (path / "report.html").exists()
    assert "resuming from step" in finish(path, option)
    assert_same(path, whole_run)
    assert (path / "report.html").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_0(whole_run, tmp_path, number):
    path = tmp_path / "run"
    process = start(path)
    wait_for_checkpoint(process, path)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert "run the same command to resume" in stderr
    assert "Traceback" not in stderr
    finish(path)
    assert_same(path, whole_run)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB, for a run whose checkpoints take about 50 kB each."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_checkpoints_before_stay_good(small_disk, tmp_path):
    path = small_disk / "run"
    data = f"--config.data.data_dir={tmp_path / 'data'}"
    process = start(path, data, "--config.epochs=40")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "No space left on device" in stderr.splitlines()[-1]
