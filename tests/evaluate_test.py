"""Scoring a checkpoint: the threshold of a diagnosis, and which weights are scored."""

import csv
import dataclasses

import numpy as np
import pytest
from etils import epath
from sklearn import metrics

from jaxlung import checkpoint, config_file, evaluate
from jaxlung import system as system_lib
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
        config.task = dict(lungs="none", crop_pixels=0, threshold=threshold)
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


def test_without_both_classes_in_validation_the_threshold_is_one_half(untrained, caplog):
    splits = SPLITS | {"validation": Healthy(5)}
    with caplog.at_level("WARNING"):
        summary = evaluate.evaluate(make_config(0.0), untrained, splits, ["test"])["test"]
    assert summary["threshold"] == 0.5
    assert "one class only" in caplog.text
