"""ONNX files: onnxruntime against the run's own evaluation, and single operations against JAX."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from jaxlung import checkpoint, config_file, export, exported, workdir
from jaxlung import system as system_lib
from tests import export_test

UNET, IN_LUNGS = "covidqu:quick", "v7_diagnosis:lungs=true,quick"
OTHERS = ("covidqu_residual:quick", "cxr_lungs:quick", "v7_lungs:quick", "v7_diagnosis:quick")


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def make_config(spec, **changes):
    config = config_file.load(config_file.resolve(spec))
    if "threshold" in config.task:  # That of a diagnosis would be chosen in evaluation.
        config.task.threshold = 0.6
    config.update_from_flattened_dict(changes)
    return config


def export_run(folder, config, head_factor=8):
    """The file of a run whose untrained network has outputs on both sides of its borders."""
    path = epath.Path(folder / "run")
    workdir.open_for(config, path)
    system = system_lib.make_system(config)
    state = system.init_state()
    # The last layer's alone: larger ones in every layer would magnify rounding too.
    state = state.replace(params=multiply_head(state.params, head_factor))
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    export.export(path, folder / "model.onnx")
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
def test_onnxruntime_gives_what_the_run_gives(spec, onnxruntime, tmp_path):
    file, system, state = export_run(tmp_path, make_config(spec))
    for count in (1, 5):
        batch = random_batch((count, *system.settings.input_shape), seed=count)
        want = export_test.run_eval_step(system, state, **batch)
        got = run_file(onnxruntime, str(file), batch)
        require_agreement(got, want, export.borders(system.task))


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
    require_agreement(run_file(onnxruntime, str(file), batch), want, export.borders(system.task))


def test_the_file_says_what_it_is(onnxruntime, tmp_path):
    file, system, _ = export_run(tmp_path, make_config(IN_LUNGS))
    session = onnxruntime.InferenceSession(str(file))
    manifest = json.loads(session.get_modelmeta().custom_metadata_map["manifest"])
    export.export(tmp_path / "run", tmp_path / "model.jaxlung")
    other = exported.load(tmp_path / "model.jaxlung").manifest
    apart = {"created", "format", "inputs", "versions", "config"}
    only_there = {"platforms", "calling_convention", "sha256"}
    assert set(other) - set(manifest) == only_there
    for name in set(manifest) - apart:
        assert manifest[name] == other[name]
    size = system.settings.image_size
    assert manifest["inputs"]["images"]["shape"] == ["b", str(size), str(size)]
    shapes = {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}
    square, one = ["B", size, size], ["B", 1, 1]
    assert shapes == {"images": square, "masks": square, "probs": one, "preds": one}


@pytest.mark.parametrize(
    ("operation", "stands_for", "sentence"),
    [
        ("logistic", "Tanh", "are .* from JAX's, want at most 0.0001; not written"),
        ("gt", "Less", "levels are not of its probabilities; not written"),
        ("add", "BitwiseAnd", "onnxruntime refuses the network"),
        ("conv_general_dilated", None, "conv_general_dilated .*conv.* can't be written as ONNX"),
    ],
)
def test_a_wrong_file_is_not_written(
    operation, stands_for, sentence, onnxruntime, tmp_path, monkeypatch
):
    from jaxlung import jaxpr_to_onnx

    monkeypatch.delitem(jaxpr_to_onnx.OPERATIONS, operation)
    if stands_for:

        def wrong(graph, eqn, *values):
            return graph.add(stands_for, *values)

        monkeypatch.setitem(jaxpr_to_onnx.OPERATIONS, operation, wrong)
    with pytest.raises(ValueError, match=sentence) as caught:
        export_run(tmp_path, make_config(OTHERS[-1]))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"model.ONNX wants onnx.*: pip install 'jaxlung\[onnx\]'"):
        export.export(tmp_path, pathlib.Path("model.ONNX"))


WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)


def conv(x, kernel, strides, padding, rates=(1, 1), groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=rates,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


OPERATIONS = {  # of x [B, 6, 8, 3] float32 and m [B, 6, 8] uint8 bits
    "strided": lambda x, m: x[:, 1::2, ::3],
    "turned": lambda x, m: x.transpose(0, 3, 2, 1)[:, :2],
    "joined": lambda x, m: jnp.concatenate([x[..., :1], x, x[..., 1:]], axis=-1),
    "stacked": lambda x, m: jnp.stack([x, 2 * x], axis=2),
    "split": lambda x, m: jnp.split(x, [1, 2], axis=-1)[1],
    "edges": lambda x, m: jnp.pad(x, ((0, 0), (0, 2), (1, 0), (0, 0)), mode="edge"),
    "padded": lambda x, m: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 3)), constant_values=-2.5),
    "flat": lambda x, m: x.reshape(x.shape[0], -1),
    "repeated": lambda x, m: jnp.repeat(x, 2, axis=1),
    "spread": lambda x, m: x * jnp.mean(x, axis=(1, 2), keepdims=True),
    "extremes": lambda x, m: jnp.max(x, (1, 2)) - jnp.min(x, (1, 2), where=x > 0, initial=1),
    "masked": lambda x, m: jnp.where(
        (m & 2)[..., None] != 0, x, jnp.arange(8.0).reshape(1, 1, 8, 1)
    ),
    "counted": lambda x, m: (x > 0).astype(jnp.uint8) + (x >= 0.5) + m[..., None],
    "both": lambda x, m: (m > 1) & (x[..., 0] > 0),
    "clipped": lambda x, m: jnp.clip(x, -0.5, 0.5),
    "truncated": lambda x, m: (3 * x).astype(jnp.int16).astype(jnp.float32),
    "gates": lambda x, m: jax.nn.leaky_relu(x, 0.2) / (1 + jax.nn.sigmoid(x)) - jax.nn.relu(x),
    "dense": lambda x, m: x @ WEIGHTS[0, 0] + WEIGHTS[:1, :1, :1],
    "conv": lambda x, m: conv(x, WEIGHTS, (2, 1), [(0, 1), (1, 0)]),
    "atrous": lambda x, m: conv(x, WEIGHTS, (1, 1), "SAME", rates=(2, 3)),
    "grouped": lambda x, m: conv(x, WEIGHTS[:, :, :1], (1, 1), "VALID", groups=3),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_matches_jax(name, onnxruntime):
    from jaxlung import onnx_export

    def predict(weights, batch):
        found = OPERATIONS[name](batch["images"], batch["masks"])
        return found.astype(jnp.float32), batch["masks"]

    spec = {"images": (None, 6, 8, 3), "masks": (None, 6, 8)}
    dtypes = {"images": np.float32, "masks": np.uint8}
    inputs = {x: jax.ShapeDtypeStruct((1, *spec[x][1:]), dtypes[x]) for x in spec}
    model = onnx_export.to_model(predict, {}, inputs, {"notice": ""}).SerializeToString()
    for count in (1, 4):
        np_rng = np.random.default_rng(count)
        images = np_rng.normal(size=(count, 6, 8, 3)).astype(np.float32)
        batch = {"images": images, "masks": np_rng.integers(0, 4, (count, 6, 8), np.uint8)}
        got, masks = run_file(onnxruntime, model, batch)
        want = OPERATIONS[name](*map(jnp.asarray, batch.values()))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(masks, batch["masks"])


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.sort(x, axis=1),
        lambda x: jax.lax.conv_transpose(x, WEIGHTS, (2, 2), "SAME"),
        lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x),
        lambda x: jax.lax.scan(lambda carry, y: (carry, y), 0, x)[1],
    ],
)
def test_what_has_no_translation_is_told(fn, onnxruntime):
    from jaxlung import onnx_export

    inputs = {"images": jax.ShapeDtypeStruct((1, 6, 8, 3), np.float32)}

    def predict(weights, batch):
        return fn(batch["images"]), batch["images"]

    with pytest.raises(ValueError, match=r"can't be written as ONNX here; a \.jaxlung file holds"):
        onnx_export.to_model(predict, {}, inputs, {"notice": ""})
