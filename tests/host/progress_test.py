"""Progress is logged for long work only."""

import logging

import pytest

from jaxlung.host import progress


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (7999, "2 h 13 min"),
    ],
)
def test_durations_for_people(seconds, want):
    assert progress.duration(seconds) == want


def run(monkeypatch, caplog, seconds_per_item):
    clock = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) * seconds_per_item)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert list(progress.report("abcdefgh", "reading", "images", 8)) == list("abcdefgh")
    return [message for message in caplog.messages if message.startswith("reading")]


def test_short_work_is_silent(monkeypatch, caplog):
    assert run(monkeypatch, caplog, 0.1) == []


def test_long_work_says_how_far_it_is(monkeypatch, caplog):
    lines = run(monkeypatch, caplog, 6)
    assert lines[0] == "reading: 3 of 8 images, 0.167/s, 30 s left"
    assert len(lines) == 2
