"""The networks of a study as one: for arrays, on the command line, in one file."""

import shutil

import numpy as np
import pytest
from etils import epath
from PIL import Image

import jaxlung
from jaxlung import main
from jaxlung.commands import models
from jaxlung.config import study_folder
from jaxlung.export import writer
from jaxlung.predict import mean, network
from tests.predict import networks


def make_study(path, role):
    """Two folds with different weights and thresholds."""
    for number in (0, 1):
        config = networks.make_config(
            role, **{"seed": number, "task.threshold": 0.4 + 0.2 * number}
        )
        networks.save_run(path / "runs" / f"fold_{number}", config)
    study_folder.write(epath.Path(path), {"fold_0": "all folds", "fold_1": "all folds"})
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("x") / "folder_folds", "lung")


@pytest.fixture
def part(study, tmp_path):
    shutil.copytree(study, tmp_path / "part")
    (tmp_path / "part" / "runs" / "fold_1" / "finished.txt").unlink()
    return tmp_path / "part"


def draw_image(shape=(50, 40)):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_study_predicts_the_mean_of_its_runs(study):
    model, image = jaxlung.load(study), draw_image()
    assert isinstance(model, mean.Mean)
    each = [jaxlung.load(study / "runs" / f"fold_{n}").probs(image) for n in (0, 1)]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    want = np.mean(each, axis=0)
    np.testing.assert_allclose(model.probs(image), want, atol=1e-6)
    clear = np.abs(want - 0.5) > 1e-5  # The mean of the thresholds.
    np.testing.assert_array_equal(model.predict(image)[clear], (want > 0.5)[clear])
    assert model.find(image).disagreement >= 0


def test_a_study_of_one_run_is_that_run(study, tmp_path):
    shutil.copytree(study, tmp_path / "one")
    study_folder.write(epath.Path(tmp_path / "one"), {"fold_0": "all folds"})
    assert isinstance(jaxlung.load(tmp_path / "one"), network.Network)


@pytest.mark.slow  # Compiling a 3D network's windows.
def test_a_study_on_cts_predicts_the_mean_of_its_runs(tmp_path):
    model = jaxlung.load(make_study(tmp_path, "ct_lung"))
    volume = np.random.default_rng(0).integers(-1000, 200, (6, 20, 18)).astype(np.int16)
    spacing_mm = (2.0, 1.0, 1.0)
    each = [
        network.load(tmp_path / "runs" / f"fold_{n}").probs(volume, spacing_mm=spacing_mm)
        for n in (0, 1)
    ]
    got = model.probs(volume, spacing_mm=spacing_mm)
    np.testing.assert_allclose(got, np.mean(each, axis=0), atol=1e-5)
    assert model.predict(volume, spacing_mm=spacing_mm).shape == volume.shape


def predict(*models_named, images, output):
    flags = [f"--model={model}" for model in models_named]
    _, start = main.parse(["jaxlung", "predict", str(images), str(output), *flags])
    assert start() == 0
    return np.asarray(Image.open(output / "a_mask.png")), (output / "predictions.csv").read_text()


def test_the_folder_of_a_study_is_each_of_its_runs(study, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(draw_image()).save(tmp_path / "in" / "a.png")
    runs = [study / "runs" / f"fold_{n}" for n in (0, 1)]
    got, table = predict(study, images=tmp_path / "in", output=tmp_path / "got")
    want, _ = predict(*runs, images=tmp_path / "in", output=tmp_path / "want")
    np.testing.assert_array_equal(got, want)
    assert "lung_disagreement" in table


def test_a_study_is_exported_as_the_mean_of_its_runs(study, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(writer, "export", lambda runs, output, half: seen.extend(runs))
    _, start = main.parse(["jaxlung", "export", str(study), str(tmp_path / "x.jaxlung")])
    assert start() == 0
    assert [run.name for run in seen] == ["fold_0", "fold_1"]


def test_models_lists_studies_and_says_what_is_wrong(study, part):
    found = [*models.describe(study.parent), *models.describe(part.parent)]
    lines = [line for line in found if "comes with jaxlung" not in line]
    assert "mean of 2 runs; fold_0: not scored yet" in lines[0]
    assert "has unfinished runs, 1 of 2 (fold_1)" in lines[1]


@pytest.mark.parametrize(
    "words", [["predict", "{part}", "{part}/o", "--model={part}"], ["export", "{part}", "{part}.x"]]
)
def test_a_part_of_a_study_is_never_taken_for_the_whole(part, words):
    _, start = main.parse(["jaxlung", *(word.format(part=part) for word in words)])
    with pytest.raises(ValueError, match=r"part: has unfinished runs, 1 of 2 \(fold_1\)"):
        start()
    with pytest.raises(ValueError, match=r"part: has unfinished runs, 1 of 2 \(fold_1\)"):
        jaxlung.load(part)
