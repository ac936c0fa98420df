"""Tests of preparing: several runs at once, full disks, and remains of killed runs."""

import errno
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from jaxlung.data import record
from jaxlung.data.sources import datasets, preparing
from jaxlung.host import folder_lock
from tfds_builders.covid_qu_ex import covid_qu_ex_dataset_builder
from tfds_builders.phantoms import covid_qu_ex as phantom

ROOT = pathlib.Path(__file__).parents[3]
PLACE = pathlib.Path("covid_qu_ex/infection/1.0.0")
OPEN = """
import sys
from absl import logging
from jaxlung.parallel import interrupt
from jaxlung.data.sources import datasets
logging.set_verbosity(logging.INFO)
fields = dict(name="covid_qu_ex/infection", raw_dir="", download=False, phantom_images=200)
splits = datasets.open_splits(fields | dict(data_dir=sys.argv[1]), needs=3, seed=0)
print(sum(map(len, splits.values())))
"""


def open_splits(data_dir, raw):
    fields = dict(name="covid_qu_ex/infection", data_dir=str(data_dir), raw_dir=str(raw))
    fields |= dict(download=False, phantom_images=0)
    return datasets.open_splits(fields, needs=record.LUNG | record.INFECTION, seed=0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return phantom.write(tmp_path_factory.mktemp("raw") / "tree", 20, image_size=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory, raw):
    folder = tmp_path_factory.mktemp("made")
    open_splits(folder, raw)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_the_dataset_and_its_lock_are_left(made):
    assert names(made) == [".covid_qu_ex.lock", "covid_qu_ex"]
    assert names(made / "covid_qu_ex") == ["infection"]
    assert names(made / "covid_qu_ex/infection") == ["1.0.0"]


def test_nothing_is_left_among_the_temporary_files(tmp_path, raw, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    open_splits(tmp_path / "data", raw)
    assert names(tmp_path / "tmp") == []


def test_whoever_waits_reads_what_the_other_made(tmp_path, raw, made, monkeypatch, caplog):
    caplog.set_level("INFO", "absl")
    inside = threading.Event()

    def other_run():
        with folder_lock.wait_for_turn(tmp_path / ".covid_qu_ex.lock", "x"):
            inside.set()
            time.sleep(0.3)
            shutil.copytree(made / PLACE, tmp_path / PLACE)

    thread = threading.Thread(target=other_run)
    thread.start()
    inside.wait(30)
    monkeypatch.setattr(preparing, "make", None)
    splits = open_splits(tmp_path, raw)
    thread.join()
    assert splits["train"].people() == open_splits(made, raw)["train"].people()
    assert f"another run is preparing {tmp_path / PLACE}; waiting for it" in caplog.text


def test_without_locks_the_second_of_two_reads_the_firsts(tmp_path, raw, made, monkeypatch):
    def be_late(builder, **_):
        shutil.copytree(made / PLACE, tmp_path / PLACE)
        shutil.copytree(made / PLACE, builder.data_path)

    monkeypatch.setattr(covid_qu_ex_dataset_builder.Builder, "download_and_prepare", be_late)
    assert len(open_splits(tmp_path, raw)["train"]) == len(open_splits(made, raw)["train"])
    assert names(tmp_path) == [".covid_qu_ex.lock", "covid_qu_ex"]


def test_prepared_data_need_no_lock(made, raw, monkeypatch):
    monkeypatch.setattr(folder_lock, "wait_for_turn", None)
    assert len(open_splits(made, raw)["train"])


@pytest.mark.parametrize("is_made", [False, True])
def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path, raw, made, is_made):
    if is_made:
        shutil.copytree(made / PLACE, tmp_path / PLACE)
    ours = [".covid_qu_ex-preparing-ab12_xyz", ".raw-abcdefgh"]
    ours.append("covid_qu_ex/infection/incomplete.ABC123_1.0.0")
    theirs = [".covid_qu_ex-preparing-mine", ".v7_covid_cxr-preparing-ab12_xyz", ".raw-x", "raw"]
    theirs.append("covid_qu_ex/infection/incomplete.notes")
    elsewhere = tmp_path.with_name(f"{tmp_path.name}_elsewhere")
    for folder in [*(tmp_path / name for name in ours + theirs), elsewhere]:
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (tmp_path / ".raw-link1234").symlink_to(elsewhere)
    (tmp_path / ours[0] / "link").symlink_to(elsewhere)
    open_splits(tmp_path, raw)
    assert [name for name in ours if (tmp_path / name).exists()] == []
    assert all((tmp_path / name / "file").exists() for name in theirs)
    assert (tmp_path / ".raw-link1234" / "file").exists()


def test_what_a_living_run_makes_is_left_alone(tmp_path, raw, made):
    shutil.copytree(made / PLACE, tmp_path / PLACE)
    (tmp_path / ".covid_qu_ex-preparing-ab12_xyz").mkdir()
    with folder_lock.wait_for_turn(tmp_path / ".covid_qu_ex.lock", "x"):
        open_splits(tmp_path, raw)
    assert (tmp_path / ".covid_qu_ex-preparing-ab12_xyz").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("write() failed: No space left on device; writing x; at byte 9"),
    ],
)
def test_a_full_disk_is_named_and_nothing_half_made_stays(tmp_path, raw, monkeypatch, error):
    def fill(builder, **_):
        pathlib.Path(builder.data_path).mkdir(parents=True)
        (pathlib.Path(builder.data_path) / "half").write_text("x")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(covid_qu_ex_dataset_builder.Builder, "download_and_prepare", fill)
        with pytest.raises(OSError, match=rf"(space|quota).*'{tmp_path}'") as caught:
            open_splits(tmp_path, raw)
    assert caught.value.errno in (errno.ENOSPC, errno.EDQUOT)
    assert names(tmp_path) == [".covid_qu_ex.lock", "covid_qu_ex"][: len(names(tmp_path))]
    assert not list(tmp_path.rglob("half"))
    assert len(open_splits(tmp_path, raw)["train"])


def test_other_errors_of_a_builder_stay_what_they_are(tmp_path, raw, monkeypatch):
    def fail(builder, **_):
        raise RuntimeError("ours")

    monkeypatch.setattr(covid_qu_ex_dataset_builder.Builder, "download_and_prepare", fail)
    with pytest.raises(RuntimeError, match="ours"):
        open_splits(tmp_path, raw)


def start(data_dir):
    command = [sys.executable, "-W", "ignore", "-c", OPEN, str(data_dir)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["*/.raw-*", "*/.covid_qu_ex-preparing-*/*/*/*/*"])
def test_another_run_takes_over_from_a_killed_one(tmp_path, sign):
    first = start(tmp_path)
    while not list(tmp_path.glob(sign)):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # It still holds the lock.
    others = [start(tmp_path) for _ in range(2)]
    for process in others:
        assert any("waiting for it" in line for line in process.stderr)
    first.kill()
    first.communicate()
    told = ""
    for process in others:
        stdout, stderr = process.communicate(timeout=600)
        assert (process.returncode, stdout) == (0, "200\n"), stderr
        told += stderr
    assert told.count("left behind") == told.count("preparing ") == 1
    (folder,) = tmp_path.iterdir()
    assert names(folder) == [".covid_qu_ex.lock", "covid_qu_ex", "raw"]
