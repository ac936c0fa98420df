"""The scheduler with workers that pretend: what runs when and where, and what stops it."""

import contextlib
import logging as std_logging
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from etils import epath

from jaxlung import job
from jaxlung.config import config_file, run_files
from jaxlung.study import devices, schedule, workers

ROOT = pathlib.Path(__file__).parent.parent.parent
FAKE = (sys.executable, str(pathlib.Path(__file__).parent / "fake_worker.py"))


@pytest.fixture(autouse=True)
def _finished_txt_means_done(monkeypatch):
    monkeypatch.setattr(job, "is_done", lambda config, path: (path / job.FINISHED).exists())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def make_config(epochs=2, data=-1, space=1):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.epochs = epochs
    config.mesh.update(data=data, space=space)
    return config


def make_tasks(path, *names, **fields):
    return [schedule.Task(x, make_config(), epath.Path(path / x), **fields) for x in names]


def make_pool(num_gpus):
    return devices.Pool(devices.GPU, [str(number) for number in range(num_gpus)])


def run(tasks, pool, **settings):
    statuses = schedule.run(tasks, pool, command=FAKE, **settings)
    return {status.task.name: status.state for status in statuses}


def events(path):
    return [line.split(maxsplit=1) for line in (path / "events.txt").read_text().splitlines()]


def most_at_once(path):
    running, most = set(), 0
    for name, event in events(path):
        if event.startswith("start"):
            running.add(name)
        else:
            running.remove(name)
        most = max(most, len(running))
    return most


def test_as_many_run_at_once_as_there_are_devices_each_on_its_own(tmp_path):
    tasks = make_tasks(tmp_path, *"abcde")
    assert run(tasks, make_pool(2)) == dict.fromkeys("abcde", schedule.FINISHED)
    assert most_at_once(tmp_path) == 2
    places = [event.split()[1] for _, event in events(tmp_path) if event.startswith("start")]
    assert set(places) == {"0", "1"}
    assert places[:2] == ["0", "1"] or places[:2] == ["1", "0"]
    config = (tmp_path / "a" / "config.json").read_text()
    assert '"epochs": 2' in config


def test_the_longest_is_first_and_so_is_what_it_needs(tmp_path):
    tasks = [
        schedule.Task("short", make_config(1), epath.Path(tmp_path / "short")),
        schedule.Task("long_one", make_config(3), epath.Path(tmp_path / "7")),
        schedule.Task("needed", make_config(1), epath.Path(tmp_path / "needed")),
        schedule.Task("user", make_config(4), epath.Path(tmp_path / "user"), needs=("needed",)),
    ]
    run(tasks, make_pool(1))
    started = [name for name, event in events(tmp_path) if event.startswith("start")]
    assert started == ["needed", "user", "7", "short"]


def test_a_failed_run_fails_those_that_need_it_and_the_others_go_on(tmp_path, caplog):
    tasks = make_tasks(tmp_path, "fail", "crash", "good")
    tasks += make_tasks(tmp_path, "user", needs=("fail",))
    tasks += make_tasks(tmp_path, "its_user", needs=("user",))
    statuses = schedule.run(tasks, make_pool(2), command=FAKE)
    assert schedule.failures(statuses) == {
        "fail": "no luck.",
        "crash": "SIGKILL ended it (too little memory?)",
        "user": "it needs fail, which failed",
        "its_user": "it needs user, which failed",
    }
    assert statuses[2].state == schedule.FINISHED
    assert "fail: failed: no luck." in caplog.text


def test_each_end_is_told_once_and_may_bring_further_parts_of_the_same_runs(tmp_path):
    tasks = make_tasks(tmp_path, "a", "b", "fail", until_epoch=1)
    told = []

    def on_end(status):
        told.append((status.task.name, status.state))
        names = [name for name, state in told if state == schedule.FINISHED]
        return make_tasks(tmp_path, "b") if sorted(names) == ["a", "b"] else []

    states = run(tasks, make_pool(3), on_end=on_end)
    assert sorted(told[:3]) == [("a", "finished"), ("b", "finished"), ("fail", "failed")]
    assert told[3:] == [("b", "finished")]
    assert states == {"a": "finished", "b": "finished", "fail": "failed"}
    parts = [f"{name} {x.split()[-1]}" for name, x in events(tmp_path) if x.startswith("start")]
    assert sorted(parts) == ["a 1", "b 1", "b None", "fail 1"]


def test_a_part_that_another_command_did_is_not_done_again(tmp_path):
    (tmp_path / "a").mkdir()
    names = run_files.METRICS
    rows = [",".join(names), *(",".join([f"{epoch}"] * len(names)) for epoch in (1, 2))]
    (tmp_path / "a" / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert run(make_tasks(tmp_path, "a", until_epoch=2), make_pool(1)) == {"a": "finished"}
    assert not (tmp_path / "events.txt").exists()
    run(make_tasks(tmp_path, "a"), make_pool(1))
    assert [name for name, _ in events(tmp_path)] == ["a", "a"]


def test_the_status_of_every_task_is_shown_while_they_run(tmp_path):
    seen = set()

    def show(statuses):
        seen.update((x.task.name, x.state, x.where) for x in statuses)

    run(make_tasks(tmp_path, "a", "b"), make_pool(1), show=show)
    assert seen == {
        ("a", "running", "GPU 0"),
        ("a", "finished", ""),
        ("b", "waiting", ""),
        ("b", "running", "GPU 0"),
        ("b", "finished", ""),
    }


def test_a_run_that_another_command_holds_is_waited_for_and_taken_when_it_lets_go(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(schedule, "SECONDS_BETWEEN_CLAIMS", 0.05)
    held = workers.claim(epath.Path(tmp_path / "a"))
    assert workers.claim(epath.Path(tmp_path / "a")) is None

    def show(statuses):
        if statuses[1].state in schedule.ENDED:
            assert statuses[0].state in (schedule.HELD, schedule.RUNNING, schedule.FINISHED)
            held.close()

    with caplog.at_level(std_logging.INFO, logger="absl"):
        states = run(make_tasks(tmp_path, "a", "b"), make_pool(1), show=show)
    assert states == {"a": "finished", "b": "finished"}
    assert caplog.text.count("another command is at work on a; waiting for it") == 1
    assert [name for name, _ in events(tmp_path)] == ["b", "b", "a", "a"]


def test_a_run_that_another_command_finishes_is_finished(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(schedule, "SECONDS_BETWEEN_CLAIMS", 0.05)
    held = workers.claim(epath.Path(tmp_path / "a"))

    def show(statuses):
        if statuses[0].state == schedule.HELD:
            (tmp_path / "a" / job.FINISHED).write_text("done\n")
            held.close()

    with caplog.at_level(std_logging.INFO, logger="absl"):
        assert run(make_tasks(tmp_path, "a"), make_pool(1), show=show) == {"a": "finished"}
    assert "a: another command has finished it" in caplog.text
    assert not (tmp_path / "events.txt").exists()


def test_a_command_waits_for_the_gpus_of_another_on_this_machine(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pools = [devices.Pool(devices.GPU, ["0"], uuids={"0": "GPU-a"}) for _ in range(2)]
    other = pools[0].take(make_config())

    def show(statuses):
        if "another command has all devices of this machine" in caplog.text:
            other.let_go()
        if statuses[0].state == schedule.RUNNING:  # The worker holds the lock, and nobody else.
            assert pools[0].take(make_config()) is None

    with caplog.at_level(std_logging.INFO, logger="absl"):
        assert run(make_tasks(tmp_path, "a"), pools[1], show=show) == {"a": "finished"}
    pools[0].give_back(other)
    pools[0].take(make_config()).let_go()


def test_the_folder_is_locked_as_long_as_the_worker_lives(tmp_path):
    def show(statuses):
        if statuses[0].state == schedule.RUNNING:
            assert workers.claim(statuses[0].task.path) is None

    run(make_tasks(tmp_path, "a"), make_pool(1), show=show)
    workers.claim(epath.Path(tmp_path / "a")).close()


def test_a_failure_of_another_command_counts_and_an_older_one_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "SECONDS_BETWEEN_CLAIMS", 0.05)
    tasks = make_tasks(tmp_path, "old", "new")
    for task in tasks:
        task.path.mkdir()
    workers.write_failure(tasks[0].path, "long ago")
    held = workers.claim(tasks[1].path)

    def show(statuses):
        if statuses[0].state in schedule.ENDED and not held.closed:
            workers.write_failure(tasks[1].path, "loss is nan")
            held.close()

    statuses = schedule.run(tasks, make_pool(1), show=show, command=FAKE)
    assert schedule.failures(statuses) == {"new": "loss is nan"}
    assert not (tmp_path / "old" / workers.FAILED).exists()


def test_a_run_of_another_config_in_the_folder_is_a_failure_of_that_run_alone(tmp_path):
    tasks = make_tasks(tmp_path, "a", "b")
    (tmp_path / "a" / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "a" / "config.json").write_text("{}")
    statuses = schedule.run(tasks, make_pool(2), command=FAKE)
    assert list(schedule.failures(statuses)) == ["a"]
    assert "config.json: there is no" in statuses[0].reason


COMMAND = """
import pathlib, sys
from tests.study import schedule_test as test
from jaxlung import job
from jaxlung.host import console
console.quiet_libraries()
job.is_done = lambda config, path: (path / job.FINISHED).exists()
path = pathlib.Path(sys.argv[1])
print(test.run(test.make_tasks(path, *sys.argv[2:]), test.make_pool(2)))
"""


def start_command(path, *names):
    """Starts a process that schedules runs of the given names."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(path), *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process


def wait_for(path, *starts):
    """Waits until the given runs have started."""
    for _ in range(600):
        with contextlib.suppress(FileNotFoundError):
            if set(starts) <= {name for name, event in events(path) if "start" in event}:
                return
        time.sleep(0.1)
    raise TimeoutError


def wait_until_free(path):
    for _ in range(600):
        if claim := workers.claim(epath.Path(path)):
            claim.close()
            return
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_scheduler_waits_until_all_are_saved(tmp_path, number):
    process = start_command(tmp_path, "long_a", "long_b", "c")
    wait_for(tmp_path, "long_a", "long_b")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "{'long_a': 'stopped', 'long_b': 'stopped', 'c': 'waiting'}\n"
    assert f"{number.name}: 2 runs save and stop" in err
    assert sorted(events(tmp_path)[2:]) == [["long_a", "saved"], ["long_b", "saved"]]


@pytest.mark.slow
def test_a_second_signal_ends_all_at_once(tmp_path):
    process = start_command(tmp_path, "deaf_a", "deaf_b")
    wait_for(tmp_path, "deaf_a", "deaf_b")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    wait_until_free(tmp_path / "deaf_a")


@pytest.mark.slow
def test_workers_stop_after_saving_when_the_scheduler_is_killed(tmp_path):
    process = start_command(tmp_path, "long_a", "long_b")
    wait_for(tmp_path, "long_a", "long_b")
    process.kill()
    process.communicate()
    wait_until_free(tmp_path / "long_a")
    wait_until_free(tmp_path / "long_b")
    assert sorted(events(tmp_path)[2:]) == [["long_a", "saved"], ["long_b", "saved"]]


@pytest.mark.slow
def test_two_commands_share_the_runs(tmp_path):
    names = ["a", "wait_a", "wait_b", "wait_c", "wait_d", "z"]
    commands = [start_command(tmp_path, *names) for _ in range(2)]
    wait_for(tmp_path, *names[1:5])  # Each command has two devices.
    (tmp_path / "go").write_text("")
    for process in commands:
        out, err = process.communicate(timeout=120)
        assert out == f"{dict.fromkeys(names, 'finished')}\n", err
    assert sorted(name for name, event in events(tmp_path) if event == "end") == names


def test_a_task_that_needs_more_devices_than_are_here_is_refused(tmp_path):
    task = schedule.Task("a", make_config(data=2, space=2), epath.Path(tmp_path / "a"))
    with pytest.raises(ValueError, match=r"run a: got 4 devices .*data=2, space=2.* the 3 GPUs"):
        run([task], make_pool(3))
