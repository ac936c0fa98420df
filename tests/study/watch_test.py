"""Runs are judged by their files: what lives, what died, what is left."""

import dataclasses
import json

import pytest
from etils import epath

from jaxlung.host import progress_file
from jaxlung.study import watch

LONG_AGO = 1_000_000.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


class Run:
    """A run's folder, and our two clocks."""

    def __init__(self, path):
        self.path = epath.Path(path / "fold_0")
        self.path.mkdir()
        self.clock, self.wall = Clock(50.0), Clock(LONG_AGO + 500)

    def writes(self, **fields):
        found = dataclasses.asdict(progress_file.Progress(**fields))
        (self.path / progress_file.FILE).write_text(json.dumps(found))

    def is_watched(self):
        return watch.Watch(self.path, self.clock, self.wall)

    def passes(self, seconds):
        self.clock.now += seconds
        self.wall.now += seconds


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_run_without_files_waits(run):
    assert run.is_watched().look() == watch.State(
        "fold_0", "waiting", "waiting", progress_file.Progress()
    )


def test_a_run_that_gives_signs_runs(run):
    run.writes(phase="compiling", written=run.wall())
    watched = run.is_watched()
    assert (watched.look().kind, watched.look().text) == ("running", "compiling")
    for _ in range(20):
        run.passes(30)
        run.writes(phase="training", detail="x", written=run.wall())
        assert (watched.look().kind, watched.look().text) == ("running", "x")


def test_the_file_of_a_dead_run_does_not_look_alive(run):
    run.writes(phase="training", written=run.wall())
    watched = run.is_watched()
    run.passes(watch.SILENT_AFTER - 1)
    assert watched.look().kind == "running"
    run.passes(1)
    assert watched.look().kind == "silent"
    run.passes(80)
    assert watched.look().text == "no sign of life for 2 min 5 s"
    run.writes(phase="training", written=run.wall())
    assert watched.look().kind == "running"


def test_an_old_file_is_not_alive_when_we_begin_to_watch(run):
    run.writes(phase="training", written=run.wall() - watch.SILENT_AFTER)
    assert run.is_watched().look().kind == "silent"


@pytest.mark.parametrize("away", [-3600.0, 3600.0])
def test_a_machine_with_another_clock_is_judged_by_its_signs(run, away):
    """Its first sign that we see settles it; before, a clock that is behind may mislead us."""
    run.writes(phase="training", written=run.wall() + away)
    watched = run.is_watched()
    run.passes(10)
    run.writes(phase="training", written=run.wall() + away)
    assert watched.look().kind == "running"
    run.passes(watch.SILENT_AFTER)
    assert watched.look().kind == "silent"


def test_a_dead_machine_whose_clock_was_ahead_is_found_out(run):
    run.writes(phase="training", written=run.wall() + 3600)
    watched = run.is_watched()
    run.passes(watch.SILENT_AFTER)
    assert watched.look().kind == "silent"


@pytest.mark.parametrize(
    ("phase", "detail", "kind", "text"),
    [
        ("failed", "a.png: no picture", "failed", "failed: a.png: no picture"),
        ("stopped", "", "stopped", "stopped"),
    ],
)
def test_an_end_counts_if_it_came_while_we_watched(run, phase, detail, kind, text):
    run.writes(phase=phase, detail=detail, written=run.wall())
    assert run.is_watched().look().kind == "waiting"  # It will be tried again.
    run.writes(phase="training", written=run.wall())
    watched = run.is_watched()
    run.writes(phase=phase, detail=detail, written=run.wall())
    run.passes(1000)
    assert (watched.look().kind, watched.look().text) == (kind, text)


def test_a_finished_run_is_finished_whatever_else_is_there(run):
    run.writes(phase="training", epoch=3, written=0.0)
    (run.path / "finished.txt").write_text("1\n")
    assert run.is_watched().look().kind == "finished"
    assert run.is_watched().look("killed").found.epoch == 3


def test_a_failure_that_only_the_parent_knows_is_told(run):
    run.writes(phase="training", written=run.wall())
    state = run.is_watched().look("killed by signal 9")
    assert (state.kind, state.text) == ("failed", "failed: killed by signal 9")


def test_a_run_that_was_started_here_starts_until_it_says_something(run):
    watched = run.is_watched()
    assert (watched.look("", "GPU 3").text, watched.look().kind) == ("starting", "waiting")
    run.writes(phase="training", epoch=3, where="node3, gpu 0", written=run.wall())
    resumed = run.is_watched()  # What an earlier process wrote.
    state = resumed.look("", "GPU 3")
    assert (state.text, state.found.where, state.found.epoch) == ("starting", "GPU 3", 3)
    run.writes(phase="reading data", where="node3, gpu 3", written=run.wall() + 1)
    assert resumed.look("", "GPU 3").text == "reading data"
    run.writes(phase="finished", written=run.wall() + 2)
    assert resumed.look("", "GPU 3").text == "finished"  # Its process has yet to end.
    assert resumed.look("", "").text == "finished"
    assert resumed.look("", "GPU 1").text == "starting"
    run.writes(phase="training", written=run.wall() + 3)
    run.passes(watch.SILENT_AFTER)
    assert resumed.look("", "GPU 1").kind == "running"
    run.passes(watch.SILENT_AFTER)
    assert resumed.look("", "GPU 1").kind == "silent"


def make(kind, **fields):
    return watch.State("x", kind, kind, progress_file.Progress(**fields))


def test_time_left_is_that_of_the_runs_at_work_and_of_those_behind_them():
    half = make("running", step=50, steps=100, seconds_left=60.0)  # 120 s in all
    quarter = make("running", step=25, steps=100, seconds_left=180.0)  # 240 s in all
    assert watch.estimate_seconds_left([half]) == 60
    assert watch.estimate_seconds_left([half, quarter]) == 180  # The longer one.
    waiting = [make("waiting")] * 4
    # (60 + 180 + 4 * 180) / 2
    assert watch.estimate_seconds_left([half, quarter, *waiting]) == 480
    assert watch.estimate_seconds_left([half, make("finished"), make("failed")]) == 60
    assert watch.estimate_seconds_left([half, make("silent", seconds_left=9.0)]) == 180


@pytest.mark.parametrize(
    "states",
    [
        [],
        [make("waiting")],
        [make("running")],
        [make("running", step=5, steps=5, seconds_left=0.0)],
        [make("running", seconds_left=5.0)],
    ],
)
def test_time_left_is_unknown_before_a_run_knows_its_own(states):
    assert watch.estimate_seconds_left(states) is None
