"""Files are written whole or not at all."""

import itertools
import os
import resource

import pytest
from etils import epath

from jaxlung.host import files
from jaxlung.predict import outputs


def test_what_was_there_is_replaced(tmp_path):
    path = epath.Path(tmp_path / "a.txt")
    files.write_text(path, "one")
    files.write_text(path, "two")
    assert path.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "a.txt")
    files.write_text(path, "one")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "two")
    assert path.read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127])
def test_a_name_may_be_as_long_as_the_system_allows(name, tmp_path):
    files.write_text(epath.Path(tmp_path / name), "one")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.fixture
def room_for_64kb():
    """Limits the size of files: the system then takes a part of a write, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("room_for_64kb")
def test_a_file_without_room_is_named_and_nothing_is_left(tmp_path):
    path = epath.Path(tmp_path / "a.txt")
    with pytest.raises(OSError, match=r"File too large: '.*/a.txt'"):
        files.write_bytes(path, bytes(10**6))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("room_for_64kb")
def test_a_table_without_room_is_named_and_keeps_its_whole_rows(tmp_path):
    table, numbers = outputs.Table(tmp_path / "t.csv", ["name"]), itertools.count()
    appended = (table.append({"name": f"{next(numbers):0300}"}) for _ in range(1000))
    with pytest.raises(OSError, match=r"File too large: '.*/t.csv'"):
        list(appended)
    table.close()
    got = outputs.read_rows(tmp_path / "t.csv")
    assert [int(row["name"]) for row in got] == list(range(next(numbers) - 1))
    assert len(got) > 200


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    path = epath.Path(tmp_path / "a.txt")
    files.write_text(path, os.fsdecode(b"m\xfcller.png"))
    assert path.read_text() == r"m\udcfcller.png"


def test_a_process_that_leaves_it_to_others_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_writes", True)  # Brought back at the end.
    files.leave_to_others()
    files.write_text(epath.Path(tmp_path / "a.txt"), "one")
    assert not list(tmp_path.iterdir())
