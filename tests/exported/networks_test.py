"""The networks that come along, and what is said about them; skipped where the file isn't there."""

import hashlib
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

import jaxlung
from jaxlung import main
from jaxlung.config import config_file, shipped
from jaxlung.exported import reader
from tfds_builders.phantoms import chest_xray

ROOT = pathlib.Path(__file__).parents[2]
FILE = shipped.FOLDER / f"{shipped.DEFAULT}{shipped.SUFFIX}"
CARD = ROOT / "docs" / "lungs.md"
LARGEST = 3 << 20  # bytes of all networks that come along
# Parts of the config that make the recipe; places of data and of runs aren't.
RECIPE = ("model_name", "model", "task", "optimizer", "augment", "epochs", "selection")

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the network isn't there yet")


def test_they_are_small_and_in_half_precision():
    assert sum(path.stat().st_size for path in shipped.FOLDER.iterdir()) <= LARGEST
    _, (weights,) = reader.read_networks(FILE)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float16)}


def test_a_changed_byte_is_noticed(tmp_path):
    content = bytearray(FILE.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.jaxlung").write_bytes(content)
    with pytest.raises(ValueError, match=r"changed\.jaxlung: .*damaged"):
        reader.load(tmp_path / "changed.jaxlung")


def test_it_was_trained_by_the_config_in_the_repository():
    manifest, _ = reader.read_networks(FILE)
    (member,) = manifest["members"]
    want = config_file.load(config_file.resolve("lungs")).to_dict()
    for name in RECIPE:
        got = member["config"][name]
        assert _plain(got) == _plain(want[name]), name
    data = ("image_size", "resize", "batch_size", "test_fraction", "validation_fraction", "folds")
    for name in data:
        assert member["config"]["data"][name] == want["data"][name], name


def _plain(value):
    """The value as JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def test_nothing_of_the_machine_that_trained_it_is_in_it():
    text = json.dumps(reader.read_networks(FILE)[0]["members"])
    assert re.findall(r'"[^"]*(?:/home/|/tmp/|/work/|/root/|[A-Z]:\\\\)[^"]*"', text) == []


def test_its_program_and_jaxlung_predict_alike():
    image = draw_chest()
    probs = jaxlung.load("lungs").probs(image)
    np.testing.assert_allclose(reader.load(FILE).probs(image), probs, atol=1e-4)


def draw_chest():
    return chest_xray.make(np.random.default_rng(3), 200, "none").image[:180]


def test_the_command_without_a_model_writes_a_mask(tmp_path):
    Image.fromarray(draw_chest()).save(tmp_path / "a.png")
    _, start = main.parse(["jaxlung", "predict", f"{tmp_path}/a.png", f"{tmp_path}/out"])
    assert start() == 0
    with Image.open(tmp_path / "out" / "a_mask.png") as mask:
        assert np.asarray(mask).shape == (180, 200)
        assert set(np.unique(mask)) <= {0, 255}
        assert 0.02 < np.mean(np.asarray(mask) > 0) < 0.8


def test_the_card_names_this_file():
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert digest in CARD.read_text()


def test_the_card_has_scores_of_adults_and_children():
    text = CARD.read_text()
    for group in ("adults", "children", "all"):
        assert re.search(rf"\| {group} \| \d+ \| \d+ \| 0\.\d+ \(0\.\d+ to 0\.\d+\) \|", text)
