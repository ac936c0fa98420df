"""Locks between processes: a second one waits, says so, and goes on after a kill -9."""

import errno
import fcntl
import signal
import subprocess
import sys
import threading

import pytest

from jaxlung.host import folder_lock

HOLD = """
import pathlib, sys, time
from jaxlung.host import folder_lock
with folder_lock.wait_for_turn(pathlib.Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_waits_until_the_first_is_done_and_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "absl")
    order, inside, leave = [], threading.Event(), threading.Event()

    def first():
        with folder_lock.wait_for_turn(tmp_path / "lock", "preparing x") as is_locked:
            inside.set()
            leave.wait(30)
            order.append(("first", is_locked))

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(30)
    with folder_lock.take_turn_if_free(tmp_path / "lock") as is_locked:
        assert not is_locked
    threading.Timer(0.2, leave.set).start()
    with folder_lock.wait_for_turn(tmp_path / "lock", "preparing x") as is_locked:
        order.append(("second", is_locked))
    thread.join()
    assert order == [("first", True), ("second", True)]
    assert [line.message for line in caplog.records] == [
        "another run is preparing x; waiting for it"
    ]


def test_nobody_there_is_nothing_said(tmp_path, caplog):
    caplog.set_level("INFO", "absl")
    for _ in range(2):
        with folder_lock.wait_for_turn(tmp_path / "lock", "x") as is_locked:
            assert is_locked
    assert not caplog.records


def test_a_killed_owner_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "held\n"
        with folder_lock.take_turn_if_free(tmp_path / "lock") as is_locked:
            assert not is_locked
        owner.send_signal(signal.SIGKILL)
        with folder_lock.wait_for_turn(tmp_path / "lock", "x") as is_locked:
            assert is_locked


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_and_no_obstacle(tmp_path, caplog, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folder_lock.wait_for_turn(tmp_path / "lock", "x") as is_locked:
        assert not is_locked
    assert "has no file locks; start one run at a time" in caplog.text
    with folder_lock.take_turn_if_free(tmp_path / "lock") as is_locked:
        assert not is_locked


def test_a_folder_that_can_not_be_written(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="absent/lock"),
        folder_lock.wait_for_turn(tmp_path / "absent" / "lock", "x"),
    ):
        raise AssertionError
    with folder_lock.take_turn_if_free(tmp_path / "absent" / "lock") as is_locked:
        assert not is_locked
