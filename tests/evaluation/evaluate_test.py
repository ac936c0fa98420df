"""Scoring a checkpoint: the threshold of a diagnosis, and which weights are scored."""

import csv
import dataclasses

import jax
import numpy as np
import pytest
from etils import epath
from sklearn import metrics

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.evaluation import evaluate, panels
from jaxlung.image import image_file
from jaxlung.report import seen
from jaxlung.training import checkpoint, trained
from jaxlung.training import system as system_lib
from tests import array_source

SPLITS = {
    "train": array_source.ArraySource(6),
    "validation": array_source.ArraySource(21, seed=1),
    "test": array_source.ArraySource(11, seed=2),
}


def make_config(threshold):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.task_name, config.model_name = "diagnosis", "diagnosis_cnn"
    with config.unlocked():
        config.task = dict(lungs="none", crop_pixels=(0, 0, 0), threshold=threshold)
        config.model = dict(filters=(4,), dense=8, in_channels=1, dtype="float32")
    return config


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A run whose checkpoint holds a fresh network."""
    path = epath.Path(tmp_path_factory.mktemp("run"))
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, system_lib.make_system(make_config(0.0)).init_state(), {}, 0.5)
    return path


def read_scores(path, split):
    with (path / f"scores_{split}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return tuple(np.array([float(r[n]) for r in rows]) for n in ("is_positive", "probability"))


@pytest.mark.parametrize("lungs", ["none", "true"])
def test_what_the_network_sees_is_shown_of_either_class(untrained, tmp_path, lungs):
    config = make_config(0.5)
    config.task.update(crop_pixels=(3, 2, 1), lungs=lungs)
    path = epath.Path(tmp_path)
    source, system = SPLITS["test"], system_lib.make_system(config)
    labels = np.array([source[i].label for i in range(len(source))])
    panels.write_seen(path / "seen_test.npz", system, source, labels > 0)
    found = seen.load(path)
    assert found.kind.tolist() == ["other", "COVID-19"]
    for row, label in enumerate((0, 1)):
        index = int(np.argmax(labels == label))
        assert found.image_id[row] == source[index].image_id
        image, mask = source[index].image, source[index].mask  # Already of the network's size.
        np.testing.assert_array_equal(found.image[row], image)
        want = (image - image.min()) / np.ptp(image).astype(float)
        if lungs == "true":
            inside = (mask & record.LUNG) != 0
            low, high = want[inside].min(), want[inside].max()
            want = np.where(inside, (want - low) / (high - low), 0)
        np.testing.assert_allclose(found.seen[row], want[3:, 2:-1], atol=1e-6)


def test_one_class_is_shown_once(untrained, tmp_path):
    path = epath.Path(tmp_path)
    source, system = SPLITS["test"], system_lib.make_system(make_config(0.5))
    panels.write_seen(path / "seen_test.npz", system, source, np.ones(len(source), bool))
    assert seen.load(path).kind.tolist() == ["COVID-19"]


def test_the_threshold_is_the_best_on_validation_and_serves_the_test_split(untrained):
    summaries = evaluate.evaluate(make_config(0.0), untrained, SPLITS, ["validation", "test"])
    threshold = summaries["test"]["threshold"]
    assert summaries["validation"]["threshold"] == threshold
    labels, probs = read_scores(untrained, "validation")
    fpr, tpr, _ = metrics.roc_curve(labels, probs)
    preds = probs > threshold
    np.testing.assert_allclose(
        preds[labels == 1].mean() - preds[labels == 0].mean(), max(tpr - fpr)
    )
    labels, probs = read_scores(untrained, "test")
    want = metrics.confusion_matrix(labels, probs > threshold)
    np.testing.assert_array_equal(summaries["test"]["confusion"], want)
    assert 0 < (labels == 1).sum() < len(labels) == 11


def test_a_threshold_that_is_given_is_used(untrained):
    given = float(np.median(read_probs(untrained)))
    summary = evaluate.evaluate(make_config(given), untrained, SPLITS, ["test"])["test"]
    assert summary["threshold"] == given
    labels, probs = read_scores(untrained, "test")
    np.testing.assert_array_equal(
        summary["confusion"], metrics.confusion_matrix(labels, probs > given)
    )


def read_probs(path):
    evaluate.evaluate(make_config(0.5), path, SPLITS, ["test"])
    return read_scores(path, "test")[1]


class Healthy(array_source.ArraySource):
    """Nobody has COVID-19."""

    def __getitem__(self, index):
        return dataclasses.replace(super().__getitem__(index), label=0)


def find_threshold(monkeypatch, config, positive, negative):
    """What is chosen where the network says these float32 probabilities."""
    probs = np.float32([*positive, *negative])
    outputs = [
        {"probs": prob.reshape(1, 1), "levels": np.full((1, 1), i < len(positive))}
        for i, prob in enumerate(probs)
    ]
    monkeypatch.setattr(evaluate.image_inference, "predict", lambda *_: iter(outputs))
    system = system_lib.make_system(config)
    source = array_source.ArraySource(len(outputs))
    return evaluate.choose_threshold(system, None, source)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([3e-7, 2e-7], [1e-7, 0.0]),
        ([1e-20], [1e-30]),
        ([1.0], [1 - 2**-24]),  # Neighbours as float32; the middle is rounded to 1.
        ([0.5 + 2**-22], [0.5 + 2**-22 - 2**-24]),  # Likewise: to the upper one, which is even.
    ],
)
def test_a_perfect_threshold_stays_perfect_on_the_device(monkeypatch, positive, negative):
    config = make_config(0.0)
    threshold = find_threshold(monkeypatch, config, positive, negative)
    chosen = trained.with_threshold(config, threshold)
    postprocess = jax.jit(system_lib.make_system(chosen).task.postprocess)
    for probs, want in ((positive, 1), (negative, 0)):
        preds = postprocess(np.float32(probs).reshape(-1, 1, 1, 1))
        np.testing.assert_array_equal(preds, np.full((len(probs), 1, 1), want))


def test_a_threshold_of_0_or_1_gives_way_to_its_neighbour():
    """0 means "to be chosen"; 1 is none."""
    assert evaluate.to_float32(1.0) == 1 - 2**-24
    assert 0 < evaluate.to_float32(0.0) < 1e-40
    assert evaluate.to_float32(1e-9) == np.float32(1e-9)


def test_without_both_classes_in_validation_the_threshold_is_one_half(untrained, caplog):
    splits = SPLITS | {"validation": Healthy(5)}
    with caplog.at_level("WARNING"):
        summary = evaluate.evaluate(make_config(0.0), untrained, splits, ["test"])["test"]
    assert summary["threshold"] == 0.5
    assert "one class only" in caplog.text


def test_scores_are_kept_for_the_same_weights_alone(tmp_path):
    """Another run in the same folder that ends at the same step is scored again."""
    config, path = make_config(0.5), epath.Path(tmp_path)

    def save_and_evaluate(seed):
        config.seed = seed
        state = system_lib.make_system(config).init_state()
        with checkpoint.open_manager(path) as manager:
            checkpoint.save(manager, state, {}, 0.5)
        found = evaluate.evaluate(config, path, SPLITS, ["validation"], keep=True)
        return checkpoint.digest_weights(state), found

    weights, first = save_and_evaluate(seed=0)
    assert first["validation"]["weights_digest"] == weights
    assert not evaluate.evaluate(config, path, SPLITS, ["validation"], keep=True)
    (path / "checkpoints").rmtree()
    others, second = save_and_evaluate(seed=1)
    assert second["validation"]["weights_digest"] == others != weights
    assert second["validation"]["step"] == first["validation"]["step"]
    assert evaluate.scored_weights(path, "validation") == others


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"step": 0}'])
def test_a_summary_of_another_shape_is_of_no_known_weights(tmp_path, content):
    path = epath.Path(tmp_path)
    assert evaluate.scored_weights(path, "test") == ""
    (path / "summary_test.json").write_text(content)
    assert evaluate.scored_weights(path, "test") == ""


@pytest.mark.parametrize("folds", [0, 2])
def test_a_fold_keeps_the_maps_that_its_scores_at_stored_size_are_of(tmp_path, folds):
    config = config_file.load(config_file.resolve("folder:quick"))
    config.data.folds = folds
    path, system = epath.Path(tmp_path), system_lib.make_system(config)
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, system.init_state(), {}, 0.5)
    splits = {name: array_source.ArraySource(4, size=20, seed=i) for i, name in enumerate(SPLITS)}
    evaluate.evaluate(config, path, splits, ["validation", "test"])
    files = sorted(x.name for x in path.glob("probs_test/*"))
    assert files == ([f"image_{i}.png" for i in range(4)] if folds else [])
    with (path / "scores_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, name in zip(rows, files, strict=False):
        preds = image_file.read_image(path / "probs_test" / name) > 127
        assert preds.shape == (20, 20)
        levels = splits["test"][int(name[6])].mask & record.LUNG > 0
        want = metrics.f1_score(levels.ravel(), preds.ravel())
        assert float(row["dice_stored"]) == pytest.approx(want, abs=0.01)
