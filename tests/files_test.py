"""Files that appear whole or not at all."""

import pytest
from etils import epath

from jaxlung import files


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


def test_a_process_that_leaves_it_to_others_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_writes", True)  # Brought back at the end.
    files.leave_to_others()
    files.write_text(epath.Path(tmp_path / "a.txt"), "one")
    assert not list(tmp_path.iterdir())
