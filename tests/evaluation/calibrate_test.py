"""A temperature is fitted to the validation split and used in every score of probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from scipy import optimize, special

from jaxlung.config import config_file, run_files
from jaxlung.data.feed import order, pipeline
from jaxlung.evaluation import calibrate, evaluate, volume_scores
from jaxlung.training import checkpoint
from jaxlung.training import system as system_lib
from jaxlung.training.inference import images as image_inference
from tests import array_source, volume_source
from tests.evaluation import evaluate_test

SPLITS = {
    "train": array_source.ArraySource(4),
    "validation": array_source.ArraySource(9, seed=1),
    "test": array_source.ArraySource(5, seed=2),
}
IN_PROBABILITIES = ("mse", "mae")


def make_config(**changes):
    config = config_file.load(config_file.resolve("folder:quick"))
    config.optimizer.average_decay = 0.0  # Otherwise not the weights that are set here are scored.
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """A run whose network is fresh but for its last layer, which follows the annotation a bit."""
    path = epath.Path(tmp_path_factory.mktemp("run"))
    system = system_lib.make_system(make_config())
    state = system.init_state()
    found = outputs_of(system, state, SPLITS["validation"])
    logits = special.logit(found["probs"].astype(np.float64))
    factor = np.sign(np.corrcoef(logits.ravel(), found["levels"].ravel())[0, 1]) / logits.std()
    head = state.params["head"]
    # As many pixels are found as are annotated.
    middle = np.quantile(factor * logits, 1 - found["levels"].mean())
    bias = factor * head["bias"] - middle
    head = {"kernel": (factor * head["kernel"]).astype(np.float32), "bias": np.float32(bias)}
    state = state.replace(params={**state.params, "head": head})
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    return path


def outputs_of(system, state, source):
    feed = pipeline.open_feed(source, system.settings, system.shardings, "validation")
    every = order.in_turn(feed.num_examples)
    outputs = list(image_inference.predict(system, state, feed, every, feed.num_examples))
    return {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}


def load_state(system, path):
    return checkpoint.load_selected(path, "last", system.abstract_state())


def test_the_temperature_fits_all_pixels_of_the_validation_split(knowing):
    system = system_lib.make_system(make_config())
    state = load_state(system, knowing)
    found = outputs_of(system, state, SPLITS["validation"])
    logits, signs = special.logit(found["probs"].astype(np.float64)), 2.0 * found["levels"] - 1

    def loss(inverse):
        return np.logaddexp(0, -signs * logits * inverse).mean()

    want = optimize.minimize_scalar(loss, bounds=(1 / 20, 20), options={"xatol": 1e-9}).x
    got = calibrate.fit_temperature(system, state, SPLITS["validation"])
    assert 1 / 19 < want < 19
    np.testing.assert_allclose(got, 1 / want, rtol=1e-3)


@pytest.mark.parametrize("threshold", [0.5, 0.6])
def test_probabilities_change_and_masks_do_not(knowing, threshold):
    system = system_lib.make_system(make_config(**{"task.threshold": threshold}))
    state = load_state(system, knowing)
    before = outputs_of(system, state, SPLITS["test"])
    after = outputs_of(system.with_temperature(0.3), state, SPLITS["test"])
    want = special.expit(special.logit(before["probs"].astype(np.float64)) / 0.3)
    np.testing.assert_allclose(after["probs"], want, atol=1e-5)
    np.testing.assert_array_equal(after["probs_before"], before["probs"])
    for name in ("preds", "confusion", "loss", "loss_excess"):
        np.testing.assert_array_equal(after[name], before[name])
    assert 0 < after["preds"].mean() < 1
    assert "probs_before" not in before


def test_a_summary_has_calibration_with_and_without_the_temperature(knowing):
    plain, fitted = (
        evaluate.evaluate(make_config(calibrate=x), knowing, SPLITS, ["validation", "test"])
        for x in (False, True)
    )
    for name in ("validation", "test"):
        before, after = plain[name], fitted[name]
        assert (before["temperature"], before["calibration_before"]) == (None, {})
        assert after["temperature"] == fitted["test"]["temperature"] != 1
        assert after["calibration_before"] == before["calibration"] != after["calibration"]
        for key, score in before["scores"].items():
            is_changed = key in IN_PROBABILITIES
            same = np.allclose(after["scores"][key], score, rtol=0.01, equal_nan=True)
            assert same or is_changed, key
    assert run_files.load_summary(knowing, "test").calibration_before


def test_splits_are_scored_again_once_the_config_wants_a_temperature_and_then_kept(knowing):
    def score(**changes):
        config = make_config(**changes)
        return set(evaluate.evaluate(config, knowing, SPLITS, ["test"], keep=True))

    score(calibrate=False)
    assert [score(calibrate=x) for x in (False, True, True, False)] == [
        set(),
        {"test"},
        set(),
        {"test"},
    ]


def test_a_diagnosis_chooses_its_threshold_among_calibrated_probabilities(tmp_path):
    path, config = epath.Path(tmp_path), evaluate_test.make_config(0.0)
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, system_lib.make_system(config).init_state(), {}, 0.5)
    plain = evaluate.evaluate(config, path, evaluate_test.SPLITS, ["validation"])["validation"]
    config.calibrate = True
    fitted = evaluate.evaluate(config, path, evaluate_test.SPLITS, ["validation"])["validation"]
    assert fitted["confusion"] == plain["confusion"]
    assert fitted["scores"]["auc"] == plain["scores"]["auc"]
    _, probs = evaluate_test.read_scores(path, "validation")
    assert (probs > fitted["threshold"]).sum() == np.sum(fitted["confusion"], axis=0)[1]


def test_a_split_that_determines_no_temperature_has_1_and_a_warning(knowing, caplog):
    system = system_lib.make_system(make_config())
    state = load_state(system, knowing)
    flat = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    with caplog.at_level("WARNING"):
        assert calibrate.fit_temperature(system, flat, SPLITS["validation"]) == 1
    assert "the validation split determines no temperature" in caplog.text


def test_a_grey_level_is_no_probability():
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.calibrate = True
    with pytest.raises(ValueError, match=r"calibrate: got True with task_name 'three_level', wh"):
        system_lib.make_system(config)


def test_volumes_are_calibrated_on_the_voxels_that_are_judged():
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    system = system_lib.make_system(config)
    state = system.init_state()
    source = volume_source.VolumeSource([(20, 24, 28), (16, 30, 24)])
    total = sum(calibrate.count_volumes(system, state, source))
    lungs = [source[i].mask & 1 != 0 for i in range(2)]
    assert total[0].sum() == sum(lung.sum() for lung in lungs)
    infected = sum((source[i].mask & 3 == 3).sum() for i in range(2))
    assert total[0, 1].sum() == infected > 0
    scored = volume_scores.score_split(system.with_temperature(0.5), state, source, "test", None)
    plain = volume_scores.score_split(system, state, source, "test", None)
    np.testing.assert_array_equal(scored.before_counts, plain.bin_counts)
    np.testing.assert_array_equal(scored.before_sums, plain.bin_sums)
    # Windows are averaged after the temperature, which moves voxels at the very threshold.
    assert np.abs(scored.confusions - plain.confusions).sum() <= 4 < plain.confusions.sum() / 5000
    assert not np.array_equal(scored.bin_sums, plain.bin_sums)
    assert plain.before_counts.shape == (2, 0, 2)
