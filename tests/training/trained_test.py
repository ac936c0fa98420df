"""Opening a trained run: on other devices, while it trains, and with the threshold it chose."""

import json

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file, workdir
from jaxlung.training import checkpoint, trained
from jaxlung.training import system as system_lib
from tests.report import report_summary


def make_config(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.model.widths = (4, 4)
    config.update_from_flattened_dict(changes)
    return config


def make_diagnosis():
    config = config_file.load(config_file.resolve("v7_diagnosis:quick"))
    assert config.task.threshold == 0
    return config


def save_run(folder, config):
    """Returns the folder of a run with an untrained network, and its state."""
    path = epath.Path(folder) / "run"
    workdir.open_for(config, path)
    state = system_lib.make_system(config).init_state()
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    return path, state


def write_summary(path, split="validation", **fields):
    summary = report_summary.make("diagnosis", {}, split=split, **fields)
    (path / f"summary_{split}.json").write_text(json.dumps(summary))


def test_a_run_is_opened_with_its_weights_wherever_it_is_named_from(tmp_path, monkeypatch):
    path, state = save_run(tmp_path, make_config(seed=3))
    monkeypatch.chdir(tmp_path)
    run = trained.open_run("run", workdir.load_config(path))
    assert (run.path, run.step) == (path.resolve(), 0)
    jax.tree.map(np.testing.assert_array_equal, run.state, state)


def test_a_run_that_trained_on_other_devices_is_fitted_to_those_of_this_machine(tmp_path):
    path, state = save_run(tmp_path, make_config())
    stored = json.loads((path / "config.json").read_text())
    stored["mesh"] = {"data": 3, "space": 2}
    stored["data"].update(batch_size=6, eval_batch_size=3)
    stored["step"]["microbatches"] = 2
    (path / "config.json").write_text(json.dumps(stored))
    config = workdir.load_config(path)
    run = trained.open_run(path, config)
    assert run.system.shardings.num_batch_shards == jax.device_count() == 4
    assert (run.config.data.batch_size, run.config.data.eval_batch_size) == (8, 4)
    assert run.config.step.microbatches == 2  # As 8 / 4 examples can be halved.
    assert (config.mesh.data, config.data.batch_size) == (3, 6)  # The caller's is left alone.
    jax.tree.map(np.testing.assert_array_equal, run.state, state)


def test_microbatches_that_do_not_divide_a_batch_here_are_given_up():
    config = make_config(**{"data.batch_size": 6, "step.microbatches": 3})
    fitted = trained.fit_to_machine(config)
    assert (fitted.data.batch_size, fitted.step.microbatches) == (8, 1)
    system_lib.make_system(fitted)


def test_a_config_that_can_not_be_used_is_an_error_that_names_its_file(tmp_path):
    path, _ = save_run(tmp_path, make_config())
    config = workdir.load_config(path)
    with config.unlocked():
        del config.model.widths
    with pytest.raises(ValueError, match=r"run/config.json: a field is missing"):
        trained.open_run(path, config)
    config.seed = -1
    with pytest.raises(ValueError, match=r"run/config.json: seed: got -1"):
        trained.open_run(path, config)


def test_a_run_at_work_is_left_alone_until_it_is_finished(tmp_path):
    path, _ = save_run(tmp_path, make_config())
    config = workdir.load_config(path)
    with workdir.lock(path):
        with pytest.raises(ValueError, match="another run is at work in it"):
            trained.open_run(path, config)
        (path / "finished.txt").write_text("0\n")
        assert trained.open_run(path, config).step == 0


def test_an_unfinished_run_in_a_folder_that_can_not_be_written_is_read(tmp_path, monkeypatch):
    path, _ = save_run(tmp_path, make_config())
    monkeypatch.setattr(trained.os, "access", lambda *_: False)  # Root may write anywhere.
    assert trained.open_run(path, workdir.load_config(path)).step == 0
    assert not (path / "lock").exists()


def test_the_threshold_is_the_one_that_was_chosen_for_these_weights(tmp_path):
    config = make_diagnosis()
    path, state = save_run(tmp_path, config)
    refused = r"no threshold was chosen for these weights of step 0 yet; first run jaxlung evaluate"
    with pytest.raises(ValueError, match=refused):
        trained.open_run(path, config)
    write_summary(path, step=0, threshold=0.25, weights_digest="other weights")
    with pytest.raises(ValueError, match=refused):
        trained.open_run(path, config)
    write_summary(path, step=0, threshold=0.25, weights_digest=checkpoint.digest_weights(state))
    run = trained.open_run(path, config)
    assert run.system.task.threshold == run.config.task.threshold == 0.25
    assert config.task.threshold == 0


def test_a_temperature_belongs_to_its_weights_and_moves_the_threshold_along(tmp_path):
    config = make_config(task_name="mask", calibrate=True)
    config.task = dict(target="lung", threshold=0.2, loss="bce", alpha=0.5)
    path, state = save_run(tmp_path, config)
    weights = checkpoint.digest_weights(state)
    refused = r"no temperature was fitted for these weights of step 0 yet; first run jaxlung eval"
    for fields in ({}, {"temperature": 2.0}, {"weights_digest": weights}):
        write_summary(path, **{"step": 0, "weights_digest": "other weights"} | fields)
        with pytest.raises(ValueError, match=refused):
            trained.open_run(path, config)
    write_summary(path, step=0, temperature=2.0, weights_digest=weights)
    system = trained.open_run(path, config).system
    assert system.step.temperature == 2
    # The logit of 0.2 is log(1 / 4); half of it is log(1 / 2), the logit of 1 / 3.
    assert system.task.threshold == pytest.approx(1 / 3)
    config.calibrate = False
    system = trained.open_run(path, config).system
    assert (system.step.temperature, system.task.threshold) == (1, 0.2)


def test_a_threshold_is_that_of_probabilities_with_the_same_temperature(tmp_path):
    config = make_diagnosis()
    path, state = save_run(tmp_path, config)
    scored = dict(step=0, weights_digest=checkpoint.digest_weights(state))
    write_summary(path, **scored, threshold=0.25)
    write_summary(path, "test", **scored, threshold=0.4, temperature=3.0)
    for calibrate, want in ((False, (1, 0.25)), (True, (3, 0.4))):
        config.calibrate = calibrate
        run = trained.open_run(path, config)
        assert (run.system.step.temperature, run.system.task.threshold) == want
        assert run.config.task.threshold == want[1]
    (path / "summary_validation.json").unlink()
    config.calibrate = False
    with pytest.raises(ValueError, match="no threshold was chosen for these weights"):
        trained.open_run(path, config)


def test_a_threshold_from_an_earlier_version_is_taken_by_its_step_with_a_warning(tmp_path, caplog):
    config = make_diagnosis()
    path, _ = save_run(tmp_path, config)
    write_summary(path, step=3, threshold=0.25, weights_digest="")
    with pytest.raises(ValueError, match="no threshold was chosen for these weights of step 0 yet"):
        trained.open_run(path, config)
    write_summary(path, step=0, threshold=0.25, weights_digest="")
    assert trained.open_run(path, config).system.task.threshold == 0.25
    assert "was written by an earlier version and doesn't say which weights" in caplog.text
