"""The screen of a study, on a small terminal of our own and where there is none."""

import dataclasses
import io
import json
import logging as std_logging
import os
import re

import pytest
from absl import logging
from etils import epath

from jaxlung.host import progress_file
from jaxlung.study import progress_table, schedule, screen


class Terminal(io.StringIO):
    """A terminal that wraps lines and knows the escapes for up, erase line, and erase below."""

    def __init__(self, columns, lines=24):
        super().__init__()
        self.size = os.terminal_size((columns, lines))
        self.rows, self.row, self.column = [""], 0, 0

    def isatty(self):
        return True

    def write(self, text):
        for part in re.findall(r"\x1b\[\d*[A-Z]|[^\x1b]", text):
            self.take(part)

    def take(self, part):
        if part == "\r":
            self.column = 0
        elif part == "\n":
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        elif part.endswith("A") and len(part) > 1:
            up = int(part[2:-1])
            assert up < self.size.lines, "the cursor can't leave the screen"
            self.row -= up
            assert self.row >= 0
        elif part == "\x1b[K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif part == "\x1b[J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            del self.rows[self.row + 1 :]
        else:
            if self.column == self.size.columns:
                self.take("\n")
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + part + row[self.column + 1 :]
            self.column += 1

    def resize(self, columns, lines=24):
        """Wraps what is there anew, as terminals do; the cursor stays at its text."""
        assert self.row == len(self.rows) - 1
        assert self.column == 0
        self.size = os.terminal_size((columns, lines))
        rows = [row[i : i + columns] for row in self.rows for i in range(0, len(row) or 1, columns)]
        self.rows, self.row = rows, len(rows) - 1

    @property
    def text(self):
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")


class Study:
    """Folders of runs, with a clock."""

    def __init__(self, path, num_runs):
        self.path = epath.Path(path)
        self.names = [f"fold_{number}" for number in range(num_runs)]
        self.now = 100.0
        for name in self.names:
            (self.path / name).mkdir()

    def writes(self, name, **fields):
        found = progress_file.Progress(**fields, written=self.now)
        text = json.dumps(dataclasses.asdict(found))
        (self.path / name / progress_file.FILE).write_text(text)

    def finishes(self, name):
        (self.path / name / "finished.txt").write_text("1\n")

    def open(self, stream):
        return screen.Screen(
            stream=stream,
            clock=lambda: self.now,
            wall=lambda: self.now,
            size=lambda: stream.size,
        )

    def statuses(self, **failures):
        """What the scheduler knows of runs that other commands run, but for some failures."""
        tasks = [schedule.Task(name, None, self.path / name) for name in self.names]
        return [schedule.Status(task, reason=failures.get(task.name, "")) for task in tasks]

    def train(self, name, epoch):
        self.writes(
            name,
            phase="training",
            epoch=epoch,
            epochs=30,
            step=epoch * 10,
            steps=300,
            loss=0.5 / epoch,
            score_name="dice",
            score=0.9,
            images_per_s=1234.5,
            seconds_left=(30 - epoch) * 10.0,
            where="node3, gpu 0",
        )


@pytest.fixture
def study(tmp_path, monkeypatch):
    made = Study(tmp_path, 3)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_a_table_is_drawn_over_itself(study):
    terminal = Terminal(82)
    terminal.write("$ jaxlung study ct_folds\n")
    shown = study.open(terminal)
    shown.update(study.statuses())
    assert terminal.text == (
        "$ jaxlung study ct_folds\n"
        "run     state\n"
        "fold_0  waiting\n"
        "fold_1  waiting\n"
        "fold_2  waiting\n"
        "0 of 3 runs finished, 3 waiting"
    )
    for epoch in range(1, 11):
        study.now += 2
        study.train("fold_0", epoch)
        study.writes("fold_1", phase="compiling", where="node3, gpu 1")
        shown.update(study.statuses())
    shown.close()
    assert terminal.text == (
        "$ jaxlung study ct_folds\n"
        "run     epoch    loss  val. dice  images/s        left  state\n"
        "fold_0  10/30  0.0500     0.9000   1,234.5  3 min 20 s  training (node3, gpu 0)\n"
        "fold_1                                                  compiling (node3, gpu 1)\n"
        "fold_2                                                  waiting\n"
        "0 of 3 runs finished, about 4 min 10 s left, 2 running, 1 waiting"
    )


def test_ends_are_shown_and_what_is_over_is_not(study):
    terminal = Terminal(70)
    study.train("fold_0", 10)
    study.train("fold_1", 10)
    study.train("fold_2", 10)
    shown = study.open(terminal)
    shown.update(study.statuses())
    study.now += 100
    study.finishes("fold_0")
    study.writes("fold_1", phase="failed", detail="a.png: no picture,\x1b[2J where " + "x" * 90)
    shown.update(study.statuses())
    rows = terminal.text.splitlines()
    assert rows[1:3] == [
        "fold_0  10/30  0.0500     0.9000  finished",
        "fold_1                            failed: a.png: no picture, [2J where xxxxx"[:68] + "…",
    ]
    assert rows[3].startswith("fold_2  10/30  0.0500     0.9000  no sign of life for 1 min 40 s")
    assert rows[4] == "1 of 3 runs finished, 1 failed, 1 silent"


@pytest.mark.parametrize("columns", [70, 61, 50, 40, 30, 20, 8])
def test_a_narrow_terminal_gets_fewer_columns(study, columns):
    terminal = Terminal(columns)
    study.train("fold_0", 10)
    shown = study.open(terminal)
    shown.update(study.statuses())
    study.now += 1
    shown.update(study.statuses())
    rows = terminal.text.splitlines()
    assert len(rows) == 5
    assert all(len(row) < columns for row in rows)
    assert rows[1].startswith("fold_0"[: columns - 2])
    if columns >= 30:
        assert "training" in rows[1]


def test_a_terminal_may_be_made_narrower_and_wider_meanwhile(study):
    terminal = Terminal(100)
    terminal.write("$ jaxlung\n")
    study.train("fold_0", 10)
    shown = study.open(terminal)
    for columns in (100, 45, 30, 90):
        terminal.resize(columns)
        study.now += 1
        shown.update(study.statuses())
        rows = terminal.text.splitlines()
        assert rows[0] == "$ jaxlung"
        assert len(rows) == 1 + 5


def test_more_runs_than_lines_show_those_that_matter(tmp_path, monkeypatch):
    study = Study(tmp_path, 64)
    monkeypatch.setenv("TERM", "xterm")
    for number in range(20):
        study.finishes(f"fold_{number}")
    study.train("fold_20", 1)
    terminal = Terminal(80, lines=10)
    shown = study.open(terminal)
    for _ in range(3):
        shown.update(study.statuses(fold_63="killed by signal 9"))
        study.now += 1
    rows = terminal.text.splitlines()
    assert len(rows) == 9
    assert [row.split()[0] for row in rows[1:7]] == [
        "fold_20",
        *(f"fold_{number}" for number in range(21, 25)),
        "fold_63",
    ]
    assert rows[7] == "and 58 more: 20 finished, 38 waiting"
    # 290 s, and 42 times 300 s.
    assert (
        rows[8] == "20 of 64 runs finished, about 3 h 34 min left, 1 failed, 1 running, 42 waiting"
    )


def test_log_lines_go_above_the_table(study):
    terminal = Terminal(80)
    shown = study.open(terminal)
    shown.update(study.statuses())
    logging.warning("sharing out 8 GPUs %s", "x" * 100)
    logging.warning("and more")
    above, _, table = terminal.text.partition("run     state\n")
    assert "sharing out 8 GPUs " + "x" * 100 in above.replace("\n", "")
    assert above.endswith("and more\n")
    assert table.startswith("fold_0  waiting\n")
    assert table.count("\n") == 3
    shown.close()
    logging.warning("later")
    assert "later" not in terminal.text


def test_it_is_drawn_once_a_second_at_most(study):
    terminal = Terminal(80)
    shown = study.open(terminal)
    drawn = []
    terminal.write = drawn.append
    for _ in range(100):
        study.now += 0.05
        shown.update(study.statuses())
    assert 4 <= len(drawn) <= 6


def test_without_a_terminal_each_event_is_a_line(study, caplog):
    with caplog.at_level(std_logging.INFO, logger="absl"):
        study.finishes("fold_0")
        shown = study.open(io.StringIO())
        shown.update(study.statuses())
        study.writes("fold_1", phase="compiling", where="node3, gpu 1")
        for epoch in range(1, 31):
            study.now += 30
            shown.update(study.statuses())
            study.train("fold_1", epoch)
        study.writes("fold_2", phase="failed", detail="a.png: no picture")
        study.finishes("fold_1")
        study.now += 1
        shown.update(study.statuses())
        shown.close()
    lines = caplog.messages
    assert lines[:3] == [
        "1 of 3 runs finished, 2 waiting",
        "fold_1: compiling (node3, gpu 1)",
        "fold_1: training (node3, gpu 0), epoch 1/30, loss 0.5000, validation dice 0.9000, "
        "1,234.5 images/s, 4 min 50 s left",
    ]
    between = [line for line in lines if line.startswith("fold_1: training")]
    assert len(between) == 15  # 29 epochs in 14 minutes.
    assert lines[-3:] == [
        between[-1],
        "2 of 3 runs finished, 1 failed",
        "2 of 3 runs finished, 1 failed",
    ]


def test_a_dumb_terminal_gets_lines(study, monkeypatch, caplog):
    monkeypatch.setenv("TERM", "dumb")
    with caplog.at_level(std_logging.INFO, logger="absl"):
        terminal = Terminal(80)
        study.open(terminal).update(study.statuses())
    assert caplog.messages == ["0 of 3 runs finished, 3 waiting"]
    assert terminal.text == ""


def test_a_stream_that_is_no_terminal_has_the_usual_size(tmp_path):
    with (tmp_path / "x").open("w") as file:
        assert screen.ask_size(file) == (80, 24)
    assert screen.ask_size(io.StringIO()) == (80, 24)


@pytest.mark.parametrize(
    ("text", "width", "want"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 1, "…")],
)
def test_what_is_too_long_is_cut(text, width, want):
    assert progress_table.clip(text, width) == want


def test_a_command_that_fails_before_its_first_run_shows_nothing(study):
    terminal = Terminal(80)
    study.open(terminal).close()
    assert terminal.text == ""


def test_what_a_signal_stopped_is_stopped_whatever_it_said_last(study):
    terminal = Terminal(80)
    study.train("fold_0", 10)
    study.train("fold_1", 30)
    study.finishes("fold_1")
    shown = study.open(terminal)
    statuses = study.statuses()
    for status in statuses[:2]:
        status.state = schedule.STOPPED
    shown.update(statuses)
    shown.close()
    rows = terminal.text.splitlines()
    assert rows[1] == "fold_0  10/30  0.0500     0.9000  stopped"
    assert rows[2] == "fold_1  30/30  0.0167     0.9000  finished"


def test_what_a_sweep_stopped_waits_until_its_rivals_are_at_the_stop(study):
    terminal = Terminal(80)
    for name in study.names:
        study.writes(name, phase="paused", epoch=4, epochs=30)
    states = (schedule.FINISHED, schedule.FINISHED, schedule.RUNNING)
    statuses = [
        schedule.Status(dataclasses.replace(x.task, until_epoch=4), state)
        for x, state in zip(study.statuses(), states, strict=True)
    ]
    shown = study.open(terminal)
    shown.update(statuses)
    assert terminal.text.splitlines()[-1] == "0 of 3 runs finished, 3 waiting"
    study.now += 1
    task = dataclasses.replace(statuses[2].task, until_epoch=12)  # It was the best.
    shown.update([*statuses[:2], schedule.Status(task, schedule.RUNNING)])
    assert terminal.text.splitlines() == [
        "run     epoch  state",
        "fold_0   4/30  stopped after epoch 4",
        "fold_1   4/30  stopped after epoch 4",
        "fold_2   4/30  waiting",
        "0 of 3 runs finished, 1 waiting, 2 stopped early",
    ]
