"""ONNX files: onnxruntime agrees with the run's own evaluation, and errors are reported."""

import json
import logging
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file, workdir
from jaxlung.export import writer
from jaxlung.exported import reader
from jaxlung.training import checkpoint
from jaxlung.training import system as system_lib
from tests.export import writer_test as export_test

UNET, IN_LUNGS = "covidqu:quick", "v7_diagnosis:lungs=true,quick"
OTHERS = ("covidqu_residual:quick", "cxr_lungs:quick", "v7_lungs:quick", "v7_diagnosis:quick")


@pytest.fixture
def onnxruntime():
    pytest.importorskip("jax2onnx")
    with jax.numpy_rank_promotion("allow"):  # In its own form of Flax's layers.
        yield pytest.importorskip("onnxruntime")


def make_config(spec, **changes):
    config = config_file.load(config_file.resolve(spec))
    if "threshold" in config.task:  # That of a diagnosis would be chosen in evaluation.
        config.task.threshold = 0.6
    config.update_from_flattened_dict(changes)
    return config


def export_run(folder, config, head_factor=8):
    """Exports a run of an untrained network with outputs on both sides of its thresholds."""
    path = epath.Path(folder / "run")
    workdir.open_for(config, path)
    system = system_lib.make_system(config)
    state = system.init_state()
    # The last layer's alone: larger ones in every layer would magnify rounding too.
    state = state.replace(params=multiply_head(state.params, head_factor))
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    writer.export([path], folder / "model.onnx")
    return folder / "model.onnx", system, state


def multiply_head(params, factor):
    def multiply(path, leaf):
        is_kernel = jax.tree_util.keystr(path).endswith("['head']['kernel']")
        return factor * leaf if is_kernel else leaf

    return jax.tree_util.tree_map_with_path(multiply, params)


def random_batch(shape, seed=0):
    np_rng = np.random.default_rng(seed)
    if len(shape) == 4:
        images = np_rng.integers(-1300, 300, shape, np.int16)
    else:
        images = np_rng.integers(0, 256, shape, np.uint8)
    return {"images": images, "masks": np_rng.integers(0, 4, shape, np.uint8)}


def run_file(onnxruntime, file, batch):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session.run(["probs", "preds"], {name: batch[name] for name in names})


def require_agreement(got, want, threshold):
    """Probabilities to 1e-5, and levels but where a probability is as near a border."""
    probs, preds = got
    np.testing.assert_allclose(probs, want["probs"], atol=1e-5)
    far = np.all(np.abs(want["probs"][..., None] - threshold) > 1e-5, axis=-1)
    np.testing.assert_array_equal(preds[far], want["preds"][far])
    assert (probs.dtype, preds.dtype) == (np.float32, np.uint8)
    assert len(np.unique(want["preds"])) > 1 or want["probs"].size < 10


@pytest.mark.parametrize(
    "spec",
    [UNET, IN_LUNGS, *(pytest.param(spec, marks=pytest.mark.slow) for spec in OTHERS)],
)
def test_onnxruntime_gives_what_the_run_gives(spec, onnxruntime, tmp_path, capfd, caplog):
    file, system, state = export_run(tmp_path, make_config(spec))
    # jax2onnx and onnxruntime have much to say.
    assert capfd.readouterr() == ("", "")
    assert all(record.levelno <= logging.INFO for record in caplog.records)
    for count in (1, 5):
        batch = random_batch((count, *system.settings.input_shape), seed=count)
        want = export_test.run_eval_step(system, state, **batch)
        got = run_file(onnxruntime, str(file), batch)
        require_agreement(got, want, writer.borders(system.task))


def test_the_temperature_is_in_the_file(onnxruntime, tmp_path):
    config = make_config("folder:quick", **{"model.widths": (4, 8)})
    _, system, state = export_run(tmp_path, config)
    config.calibrate = True
    workdir.open_for(config, epath.Path(tmp_path / "run"))
    export_test.write_temperature(epath.Path(tmp_path / "run"), 3.0)
    writer.export([epath.Path(tmp_path / "run")], tmp_path / "model.onnx")
    batch = random_batch((2, *system.settings.input_shape))
    want = export_test.run_eval_step(system.with_temperature(3.0), state, **batch)
    got = run_file(onnxruntime, str(tmp_path / "model.onnx"), batch)
    require_agreement(got, want, writer.borders(system.with_temperature(3.0).task))


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["covid19_ct:quick", "covid19_ct:region=full,attention=ce,quick"])
def test_ct_windows_too(spec, onnxruntime, tmp_path):
    file, system, state = export_run(tmp_path, make_config(spec), head_factor=1)
    batch = random_batch((2, *system.settings.input_shape))
    probs, preds = run_file(onnxruntime, str(file), batch)
    want = jax.device_get(system.window_step(state, batch))
    np.testing.assert_allclose(probs, want, atol=1e-5)
    np.testing.assert_array_equal(preds, probs > system.task.threshold)


def test_padded_sizes_and_bfloat16_runs_are_given_in_float32(onnxruntime, tmp_path):
    changes = {"data.image_size": 31, "model.pad_input": True}
    config = make_config(UNET, **changes | {"model.dtype": "bfloat16"})
    file, _, state = export_run(tmp_path, config)
    system = system_lib.make_system(make_config(UNET, **changes))
    batch = random_batch((2, 31, 31))
    want = export_test.run_eval_step(system, state, **batch)
    require_agreement(run_file(onnxruntime, str(file), batch), want, writer.borders(system.task))


def test_the_file_says_what_it_is(onnxruntime, tmp_path):
    file, system, _ = export_run(tmp_path, make_config(IN_LUNGS))
    session = onnxruntime.InferenceSession(str(file))
    manifest = json.loads(session.get_modelmeta().custom_metadata_map["manifest"])
    writer.export([tmp_path / "run"], tmp_path / "model.jaxlung")
    other = reader.load(tmp_path / "model.jaxlung").manifest
    apart = {"created", "format", "inputs", "versions", "config"}
    only_there = {"platforms", "calling_convention", "sha256", "digest"}
    assert set(other) - set(manifest) == only_there
    for name in set(manifest) - apart:
        assert manifest[name] == other[name]
    size = system.settings.image_size
    assert manifest["inputs"]["images"]["shape"] == ["b", str(size), str(size)]
    shapes = {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}
    square, one = ["b", size, size], ["b", 1, 1]
    assert shapes == {"images": square, "masks": square, "probs": one, "preds": one}


def nan_probs(probs, preds):
    return probs * jnp.nan, preds


def shifted_probs(probs, preds):
    return probs + 2e-4, preds


def wrong_levels(probs, preds):
    return probs, preds ^ 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (shifted_probs, "differ from JAX's by 0.0002, want at most 0.0001; nothing was written"),
        (nan_probs, "differ from JAX's by nan"),
        (wrong_levels, "levels don't follow from its probabilities; nothing was written"),
    ],
)
def test_a_wrong_file_is_not_written(wrong, sentence, onnxruntime, tmp_path, monkeypatch):
    import jax2onnx

    right = jax2onnx.to_onnx

    def translate(program, *args, **kwargs):
        return right(lambda *inputs: wrong(*program(*inputs)), *args, **kwargs)

    monkeypatch.setattr(jax2onnx, "to_onnx", translate)
    require_refusal(sentence, tmp_path)


def test_a_file_that_onnxruntime_cannot_read_is_not_written(onnxruntime, tmp_path, monkeypatch):
    import jax2onnx

    right = jax2onnx.to_onnx

    def translate(*args, **kwargs):
        model = right(*args, **kwargs)
        model.graph.node[0].op_type = "NoOperator"
        return model

    monkeypatch.setattr(jax2onnx, "to_onnx", translate)
    require_refusal("onnxruntime refuses the network .*NoOperator", tmp_path)


def require_refusal(sentence, folder):
    with pytest.raises(ValueError, match=sentence) as caught:
        export_run(folder, make_config(OTHERS[-1]))
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder / "model.onnx").exists()


def test_what_has_no_translation_is_told(onnxruntime):
    from jaxlung.export import onnx_export

    def predict(weights, batch):
        images = batch["images"]
        return jax.pure_callback(np.sin, images, images), images

    inputs = {"images": jax.ShapeDtypeStruct((1, 6, 8), np.float32)}
    with pytest.raises(ValueError, match=r"pure_callback.*; a \.jaxlung file holds any") as caught:
        onnx_export.to_model(predict, {}, inputs, {"notice": ""})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("package", ["jax2onnx", "onnx", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(package, tmp_path, monkeypatch):
    for other in ("jax2onnx", "onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, other, types.SimpleNamespace(__spec__=True))
    monkeypatch.setitem(sys.modules, package, None)
    sentence = rf"model.ONNX needs {package}: pip install 'jaxlung\[onnx\]'"
    with pytest.raises(ValueError, match=sentence):
        writer.export([tmp_path], pathlib.Path("model.ONNX"))
