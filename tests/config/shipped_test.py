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


def test_the_default_is_the_one_that_comes_along_whatever_lies_here(networks, tmp_path):
    (tmp_path / "here" / "lungs").mkdir()
    (tmp_path / "here" / "lungs" / "config.json").write_text("{}")
    assert shipped.default() == networks / "lungs.jaxlung"
    (networks / "lungs.jaxlung").unlink()
    with pytest.raises(ValueError, match=r"--model: got none, .* without its network 'lungs'"):
        shipped.default()


def test_the_digest_is_that_of_sha256sum_and_other_files_have_none(networks, tmp_path):
    want = "fcab7fcc2b4cffd9bb45003bfc2e468a04ef6f77ca8200a7341f027631584d25"
    assert shipped.digest(networks / "lungs.jaxlung") == want
    assert shipped.digest(tmp_path / "lungs.jaxlung") == ""


def test_only_the_network_to_start_from_may_be_a_name(networks):
    config = config_file.load(config_file.resolve("folder"))
    config.init_from = config.data.root = "lungs"  # The second one is a folder of X-rays.
    got = workdir.with_absolute_paths(config)
    assert (got.init_from, got.data.root) == ("lungs", f"{pathlib.Path.cwd()}/lungs")
