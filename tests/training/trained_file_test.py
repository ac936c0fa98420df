"""Exported files opened as trained networks."""

import hashlib
import logging
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung import main
from jaxlung.commands import models
from jaxlung.config import config_file, shipped
from jaxlung.export import writer
from jaxlung.exported import reader
from jaxlung.predict import network
from jaxlung.training import system as system_lib
from jaxlung.training import transfer
from tests.export import writer_test


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns a folder with two runs and files of one and of both."""
    folder = tmp_path_factory.mktemp("files")
    for seed in (0, 1):
        config = config_file.load(config_file.resolve("folder:quick"))
        config.seed = seed
        config.task.threshold = 0.4 + 0.2 * seed
        config.data.root = f"{folder}/images"
        writer_test.save_run(folder / f"run_{seed}", config)
    writer.export([epath.Path(folder / "run_0")], folder / "one.jaxlung")
    writer.export([epath.Path(folder / f"run_{x}") for x in (0, 1)], folder / "both.jaxlung")
    return folder


def draw_image():
    return np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)


def test_a_file_predicts_as_the_run_and_as_its_own_program(exported):
    image = draw_image()
    want = network.load(exported / "run_0")
    got = network.load(exported / "one.jaxlung")
    np.testing.assert_array_equal(got.probs(image), want.probs(image))
    np.testing.assert_array_equal(got.predict(image), want.predict(image))
    assert got.system.task.threshold == 0.4
    program = reader.load(exported / "one.jaxlung")
    np.testing.assert_allclose(got.probs(image), program.probs(image), atol=1e-5)


def test_a_file_names_no_place_of_the_machine_that_made_it(exported):
    assert str(exported) in (exported / "run_0" / "config.json").read_text()
    assert str(exported).encode() not in (exported / "both.jaxlung").read_bytes()


def test_a_file_of_several_networks_gives_all_of_them(exported):
    both = network.load_all([exported / "both.jaxlung"])
    assert [each.system.task.threshold for each in both] == [0.4, pytest.approx(0.6)]
    for number, each in enumerate(both):
        want = network.load(exported / f"run_{number}").probs(draw_image())
        np.testing.assert_array_equal(each.probs(draw_image()), want)
    with pytest.raises(ValueError, match=r"both.jaxlung: holds 2 networks, want one"):
        network.load(exported / "both.jaxlung")


def test_training_starts_from_a_file(exported):
    config = config_file.load(config_file.resolve("folder:quick"))
    fresh = system_lib.make_system(config).init_state()
    started = transfer.copy_network(str(exported / "one.jaxlung"), fresh)
    want = network.load(exported / "run_0").state.network
    jax.tree.map(np.testing.assert_array_equal, started.params, want["params"])
    jax.tree.map(np.testing.assert_array_equal, started.batch_stats, want["batch_stats"])
    assert int(started.step) == 0
    with pytest.raises(ValueError, match=r"init_from: .*both.jaxlung holds 2 networks, want one"):
        transfer.copy_network(str(exported / "both.jaxlung"), fresh)
    config.model.widths = (4, 12)
    other = system_lib.make_system(config).abstract_state()
    with pytest.raises(ValueError, match=r"one.jaxlung does not fit: .* is .* there and .* here"):
        transfer.copy_network(str(exported / "one.jaxlung"), other)


def test_weights_of_another_network_are_told(exported, monkeypatch):
    read = reader.read_networks

    def spoil(path):
        manifest, (weights,) = read(path)
        weights["params/head/kernel"] = weights["params/head/kernel"][..., :0]
        return manifest, [weights]

    monkeypatch.setattr(reader, "read_networks", spoil)
    with pytest.raises(ValueError, match=r"one.jaxlung: this version of jaxlung can't use it"):
        network.load(exported / "one.jaxlung")


def test_models_lists_runs_and_files_and_says_what_is_wrong(exported, tmp_path):
    (tmp_path / "broken.jaxlung").write_bytes(b"PK")
    lines = [*models.describe(exported), *models.describe(tmp_path)]
    listed = {line.split()[0].rsplit("/", 1)[-1]: line for line in lines}
    assert "lung on X-rays" in listed["one.jaxlung"]
    assert "mean of 2 networks, exported 20" in listed["both.jaxlung"]
    assert "run, not scored yet" in listed["run_0"]
    assert "no exported network, or a damaged one" in listed["broken.jaxlung"]


@pytest.fixture
def coming_along(exported, tmp_path, monkeypatch):
    """Returns the file of a network that comes along as "lungs"."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "networks")
    (tmp_path / "networks").mkdir()
    return shutil.copy(exported / "one.jaxlung", tmp_path / "networks" / "lungs.jaxlung")


def test_without_a_model_the_network_that_comes_along_predicts(coming_along, tmp_path, caplog):
    Image.fromarray(draw_image()).save(tmp_path / "a.png")
    _, start = main.parse(["jaxlung", "predict", f"{tmp_path}/a.png", f"{tmp_path}/out"])
    with caplog.at_level(logging.INFO, logger="absl"):
        assert start() == 0
    digest = hashlib.sha256(coming_along.read_bytes()).hexdigest()
    assert f"lungs comes with jaxlung, SHA-256 {digest}" in caplog.messages
    want = 255 * network.load(coming_along).predict(draw_image())
    with Image.open(tmp_path / "out" / "a_mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), want)


def test_models_lists_what_comes_along_with_its_digest(coming_along, tmp_path):
    (line,) = models.describe(tmp_path / "none")
    digest = hashlib.sha256(coming_along.read_bytes()).hexdigest()
    assert line.split(maxsplit=1)[0] == "lungs"
    assert line.endswith(f"comes with jaxlung, SHA-256 {digest[:12]}")
