"""Networks by name: those that come along, runs and files."""

import pathlib

import pytest

from jaxlung.config import config_file, shipped, workdir


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """A folder with one network, and an empty current folder."""
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / "lungs.jaxlung").write_bytes(b"PK")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_name_is_that_of_a_file_that_comes_along(networks):
    assert shipped.names() == ["lungs"]
    assert shipped.resolve("lungs") == networks / "lungs.jaxlung"


def test_a_run_or_a_file_of_that_name_goes_first_and_another_folder_does_not(networks, tmp_path):
    (tmp_path / "here" / "lungs").mkdir()  # A folder of X-rays, say.
    assert shipped.resolve("lungs") == networks / "lungs.jaxlung"
    (tmp_path / "here" / "lungs" / "config.json").write_text("{}")
    assert shipped.resolve("lungs") == tmp_path / "here" / "lungs"


def test_what_is_not_there_is_told_with_the_names(networks, tmp_path):
    with pytest.raises(ValueError, match=r"lung: not a run's folder: nothing is .* one of lungs"):
        shipped.resolve("lung")
    (tmp_path / "here" / "file.jaxlung").write_bytes(b"PK")
    assert shipped.resolve("file.jaxlung") == tmp_path / "here" / "file.jaxlung"
    assert shipped.resolve("~") == pathlib.Path("~").expanduser()


def test_a_config_keeps_the_name(networks):
    config = config_file.load(config_file.resolve("folder"))
    config.init_from = "lungs"
    assert workdir.with_absolute_paths(config).init_from == "lungs"
    config.init_from = "runs/mine"
    assert workdir.with_absolute_paths(config).init_from == f"{pathlib.Path.cwd()}/runs/mine"
