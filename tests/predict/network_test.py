"""Loaded networks agree with evaluation at any size, alone and in ensembles."""

import dataclasses
import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import special

import jaxlung
from jaxlung.config import workdir
from jaxlung.data import record
from jaxlung.data.transforms import resize
from jaxlung.predict import ensemble, network
from jaxlung.training import checkpoint
from tests import array_source
from tests.predict import networks
from tests.report import report_summary

IMAGES = [array_source.ArraySource(1, size=size, seed=size)[0].image for size in (32, 45, 24)]
IMAGES.append(IMAGES[1][:, :30])


@pytest.fixture(scope="module")
def lung_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("lung")
    return networks.save_run(path, networks.make_config("lung"), bias=0.5)


@pytest.fixture(scope="module")
def lung_network(lung_run):
    return network.load(lung_run)


def eval_probs(net, images):
    """Returns evaluation's outputs for images of any size, one batch each."""
    settings = net.system.settings
    outputs = []
    for image in images:
        fitted, _ = resize.fit(image, np.zeros_like(image), settings.image_size, settings.resize)
        rows = np.stack([fitted] * settings.eval_batch_size)
        labels = np.zeros(len(rows), np.int32)
        batch = {"images": rows, "masks": np.zeros_like(rows), "labels": labels}
        probs = jax.device_get(net.system.eval_step(net.state, batch)["probs"])[0]
        outputs.append(resize.unfit(probs, *image.shape, settings.resize))
    return outputs


def test_probabilities_are_those_of_evaluation_at_each_images_size(lung_network):
    images = IMAGES + IMAGES[:2]  # More than a batch, and no multiple of one.
    got, want = lung_network.predict_pictures(images), eval_probs(lung_network, images)
    assert len(got) == len(images) > lung_network.system.settings.eval_batch_size
    for one, other, image in zip(got, want, images, strict=True):
        assert one.shape == image.shape
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=1e-5)
    preds = lung_network.predict(images[1])
    assert 0 < preds.mean() < 1
    np.testing.assert_array_equal(preds, got[1] > 0.5)


def test_a_run_is_found_by_a_relative_path(lung_run, lung_network, monkeypatch):
    monkeypatch.chdir(lung_run.parent)
    found = jaxlung.load(lung_run.name)
    assert found.digest == lung_network.digest
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(found.predict(IMAGES[0]), lung_network.predict(IMAGES[0]))


def test_a_device_that_is_not_here_is_not_blamed_on_the_run(lung_run, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': No visible GPU devices.")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ValueError, match=r"^JAX_PLATFORMS: got .* finds no such device"):
        network.load(lung_run)


def test_mirroring_makes_a_network_blind_to_sides(lung_run, lung_network):
    mirrored = network.load(lung_run, mirror=True)
    image = IMAGES[0]
    once, other = lung_network.predict_pictures([image, image[:, ::-1]])
    got, flipped = mirrored.predict_pictures([image, image[:, ::-1]])
    assert np.abs(once - other[:, ::-1]).max() > 1e-3
    np.testing.assert_allclose(got, flipped[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(got, (once + other[:, ::-1]) / 2, atol=1e-6)
    assert mirrored.digest != lung_network.digest


def write_summary(path, **fields):
    summary = report_summary.make("diagnosis", {}, step=0, **{"threshold": 0.25} | fields)
    (path / "summary_test.json").write_text(json.dumps(summary))


def test_a_threshold_of_an_earlier_version_is_taken_by_its_step_and_told(tmp_path, caplog):
    path = networks.save_run(tmp_path, networks.make_config("diagnosis"))
    write_summary(path, weights_digest="")
    assert network.load(path).system.task.threshold == 0.25
    assert (
        "summary_test.json was written by an earlier version and doesn't say which weights"
        in caplog.text
    )
    write_summary(path, weights_digest="", threshold="0.25")
    with pytest.raises(ValueError, match=r"summary_test\.json: threshold: want a number"):
        network.load(path)


def test_a_diagnosis_has_the_stored_threshold_and_wants_lungs(tmp_path, lung_network):
    path = networks.save_run(tmp_path, networks.make_config("diagnosis"))
    refused = r"no threshold was chosen for these weights of step 0 yet; first run jaxlung evaluate"
    with pytest.raises(ValueError, match=refused):
        network.load(path)
    write_summary(path, weights_digest="of others")  # Of the same step, as it happens.
    with pytest.raises(ValueError, match=refused):
        network.load(path)
    write_summary(path, weights_digest=checkpoint.selected_weights("last", path))
    diagnosis = network.load(path)
    assert diagnosis.system.task.threshold == 0.25
    assert (diagnosis.role, diagnosis.needs_lungs) == ("diagnosis", True)
    with pytest.raises(ValueError, match=r"the network sees the lungs alone"):
        diagnosis.predict(IMAGES[0])
    with pytest.raises(ValueError, match=r"sees the lungs alone; add a network that finds lungs"):
        ensemble.gather([diagnosis])
    assert ensemble.gather([diagnosis, lung_network]).lungs_from == "lung"
    lungs = np.zeros((32, 32), bool)
    lungs[8:24, 4:28] = True
    changed = np.where(lungs, IMAGES[0], 0)
    seen, same = (diagnosis.probs(image, lungs) for image in (IMAGES[0], changed))
    assert seen.shape == (1, 1)
    np.testing.assert_allclose(seen, same, atol=0.02)  # The image's own scale is taken first.
    assert diagnosis.predict(IMAGES[0], lungs) == (seen > 0.25)


def test_a_temperature_changes_probabilities_and_digest_and_no_mask(tmp_path):
    path = networks.save_run(tmp_path, networks.make_config("lung"), bias=0.5)
    plain = network.load(path)
    config = networks.make_config("lung", calibrate=True)
    workdir.open_for(config, path)  # As `jaxlung evaluate --config.calibrate=True` does.
    with pytest.raises(ValueError, match="no temperature was fitted for these weights of step 0"):
        network.load(path)
    write_summary(path, temperature=2.0, weights_digest=checkpoint.selected_weights("last", path))
    tempered = network.load(path)
    image = IMAGES[0]  # Of the network's size.
    before, after = plain.probs(image), tempered.probs(image)
    want = special.expit(special.logit(before.astype(np.float64)) / 2)
    np.testing.assert_allclose(after, want, atol=1e-6)
    np.testing.assert_array_equal(tempered.predict(image), plain.predict(image))
    assert tempered.digest != plain.digest
    found = ensemble.gather([plain, tempered]).ensembles["lung"].combine([before, after])
    np.testing.assert_allclose(found.spread, abs(after - before) / 2, atol=1e-6)


def test_a_network_of_an_unknown_role_is_refused_and_not_left_out(lung_network):
    task = dataclasses.replace(lung_network.system.task, role="heart")
    step = dataclasses.replace(lung_network.system.step, task=task)
    system = dataclasses.replace(lung_network.system, step=step)
    other = dataclasses.replace(lung_network, system=system, digest="another")
    with pytest.raises(ValueError, match=r"its task finds 'heart', .* want one of lung, levels"):
        ensemble.gather([lung_network, other])


class Fake:
    """The parts of a network that an ensemble of masks uses."""

    def __init__(self, threshold):
        self.role, self.digest, self.path = "lung", str(threshold), "runs/fake"
        self.is_volumetric = self.needs_lungs = False
        self._threshold = threshold

    def preds(self, probs):
        return (probs > self._threshold).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_ensemble_is_mean_and_standard_deviation(count, lung_network):
    outputs = np.random.default_rng(0).random((count, 6, 7), np.float32)
    outputs[:, 0] = 0.1  # Where nobody finds anything.
    fakes = tuple(Fake(0.5) for _ in range(count))
    found = ensemble.Ensemble(fakes, lung_network).combine(iter(outputs))
    np.testing.assert_allclose(found.probs, outputs.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found.preds, outputs.mean(axis=0) > 0.5)
    if count == 1:
        assert math.isnan(found.disagreement)
        assert found.spread is None
        return
    np.testing.assert_allclose(found.spread, outputs.std(axis=0), atol=1e-6)
    union = (outputs > 0.5).any(axis=0)
    want = outputs.std(axis=0)[union].mean()
    np.testing.assert_allclose(found.disagreement, want, rtol=1e-4)


def test_thresholds_of_an_ensemble_are_averaged(lung_network):
    other = networks_with_threshold(lung_network, 0.7)
    team = ensemble.gather([lung_network, other])
    judged = team.ensembles["lung"].judge.preds(np.float32([[0.55, 0.65]]))
    np.testing.assert_array_equal(judged, [[0, 1]])
    assert team.digest == ensemble.gather([other, lung_network]).digest


def networks_with_threshold(net, threshold):
    task = dataclasses.replace(net.system.task, threshold=threshold)
    step = dataclasses.replace(net.system.step, task=task)
    system = dataclasses.replace(net.system, step=step)
    return dataclasses.replace(net, system=system, digest=f"{threshold}")


def test_what_does_not_go_together_is_told(lung_network):
    with pytest.raises(ValueError, match=r"are one network"):
        ensemble.gather([lung_network, lung_network])
    ct = Fake(0.5)
    ct.is_volumetric = True
    with pytest.raises(ValueError, match=r"are for X-rays and for CTs; want one kind"):
        ensemble.gather([lung_network, ct])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), "u1")]
)
def test_images_of_another_kind_are_told(image, lung_network):
    with pytest.raises(ValueError, match=r"image: want \[H, W\] uint8, not empty, got"):
        lung_network.predict(image)
    with pytest.raises(ValueError, match=r"lungs: got \(2, 2\), want the image's shape \(4, 4\)"):
        network.to_bits(np.ones((2, 2)), (4, 4))
    assert network.to_bits(np.array([[0, 7]]), (1, 2)).tolist() == [[0, record.LUNG]]


def test_the_package_loads_a_run_and_is_light_until_then(lung_run, lung_network):
    image = IMAGES[3]
    np.testing.assert_array_equal(
        jaxlung.load(lung_run).predict(image), lung_network.predict(image)
    )
    with pytest.raises(ValueError, match=r"nowhere: not a run's folder"):
        jaxlung.load(lung_run / "nowhere")
    code = "import jaxlung, sys; sys.exit(bool({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
