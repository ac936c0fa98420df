"""What a run tells of itself is in a file: soon, with signs of life, and never at its cost."""

import errno
import json
import logging
import time

import pytest
from etils import epath

from jaxlung.host import files, progress, progress_file


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_file, "SECONDS_BETWEEN_WRITES", 0.02)
    monkeypatch.setattr(progress_file, "SECONDS_BETWEEN_SIGNS", 0.1)
    return epath.Path(tmp_path) / progress_file.FILE


def wait_for(file, holds):
    """Reads the file until `holds` of it is true."""
    end = time.monotonic() + 20
    while not holds(found := progress_file.load(file)):
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def test_what_is_told_is_soon_in_the_file(file):
    with progress_file.writing(file, phase="reading data", where="node3, gpu 0"):
        first = progress_file.load(file)
        assert (first.phase, first.where, first.loss) == ("reading data", "node3, gpu 0", None)
        assert abs(first.written - time.time()) < 20
        progress_file.tell(phase="training", epoch=2, epochs=5, loss=0.25)
        progress_file.tell(score=0.5, score_name="dice")
        found = wait_for(file, lambda x: x.score == 0.5)
        assert (found.phase, found.epoch, found.epochs, found.loss) == ("training", 2, 5, 0.25)
        assert found.where == "node3, gpu 0"


def test_many_changes_are_few_writes(file, monkeypatch):
    written = []
    monkeypatch.setattr(progress_file, "SECONDS_BETWEEN_WRITES", 0.2)
    monkeypatch.setattr(files, "write_text", lambda path, text: written.append(time.monotonic()))
    start = time.monotonic()
    with progress_file.writing(file):
        while time.monotonic() - start < 0.5:
            progress_file.tell(step=1)
    assert 2 <= len(written) <= 2 + (time.monotonic() - start) / 0.2


def test_a_silent_run_gives_signs_and_its_time_left_runs_on(file):
    with progress_file.writing(file, phase="training"):
        progress_file.tell(seconds_left=100.0)
        before = wait_for(file, lambda x: x.seconds_left)
        later = wait_for(file, lambda x: x.written > before.written + 0.2)
        passed = later.written - before.written
        assert before.seconds_left - later.seconds_left == pytest.approx(passed, abs=0.05)
        progress_file.tell(seconds_left=0.001)
        time.sleep(0.05)
        assert wait_for(file, lambda x: x.seconds_left < 1).seconds_left >= 0


@pytest.mark.parametrize(
    ("error", "phase", "detail"),
    [
        (ValueError("a.png:\nno  picture"), "failed", "a.png: no picture"),
        (FloatingPointError(), "failed", "FloatingPointError"),
        (KeyboardInterrupt(), "stopped", ""),
    ],
)
def test_the_end_is_told_with_the_reason(file, error, phase, detail):
    with pytest.raises(type(error)), progress_file.writing(file, phase="training", detail="x"):
        raise error
    found = progress_file.load(file)
    assert (found.phase, found.detail) == (phase, detail)
    progress_file.tell(phase="training")  # Nobody writes any more.
    assert progress_file.load(file) == found


def test_a_full_disk_ends_no_run_and_is_told_once(file, monkeypatch, caplog):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_text", refuse)
    with caplog.at_level(logging.WARNING, logger="absl"), progress_file.writing(file):
        progress_file.tell(phase="training")
        time.sleep(0.1)
    (message,) = caplog.messages
    assert message == f"{file}: can't be written (No space left on device)"


def test_numbers_that_json_lacks_are_unknown(file):
    with progress_file.writing(file):
        progress_file.tell(loss=float("nan"), score=float("inf"))
    content = json.loads(file.read_text())
    assert content["loss"] is None
    assert content["score"] is None
    assert progress_file.load(file) is not None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"epoch": "many"}', '{"loss": "x"}', '{"phase": null}', '{"epoch": 1.5}'],
)
def test_a_file_of_something_else_is_no_news(file, text):
    file.write_text(text)
    assert progress_file.load(file) is None


def test_a_file_of_another_version_is_read_for_what_is_known(file):
    file.write_text('{"phase": "training", "epoch": 3, "temper": 1, "seconds_left": 7}')
    assert progress_file.load(file) == progress_file.Progress("training", epoch=3, seconds_left=7)


def test_long_work_says_how_far_it_is(file):
    with progress_file.writing(file, phase="evaluating"):
        for count, _ in enumerate(progress.report("abc", "evaluating test", "images", 3)):
            if count == 2:
                wait_for(file, lambda x: x.detail == "evaluating test: 2 of 3 images")
    assert progress_file.load(file).detail == ""
