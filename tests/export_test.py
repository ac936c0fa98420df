"""The exported file: the run's own masks in a process without Flax, any network, damage told."""

import functools
import json
import pathlib
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from scipy import special

import jaxlung
from jaxlung import checkpoint, config_file, export, exported, workdir
from jaxlung import system as system_lib
from jaxlung.data import resize
from jaxlung.inference import volumes as volume_inference
from tests import array_source, volume_source

ROOT = pathlib.Path(__file__).parent.parent
# What a machine that only predicts hasn't got.
UNWANTED = ("flax", "optax", "orbax", "ml_collections", "etils", "absl", "PIL", "grain")
IN_ANOTHER_PROCESS = """
import sys, numpy as np
sys.modules |= dict.fromkeys(sys.argv[4:])  # To import one of them is an error.
from jaxlung import exported
network = exported.load(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: network.predict(images[name]) for name in images})
"""


def save_run(path, config):
    """A run of an untrained network whose output is on both sides of its borders."""
    path = epath.Path(path)
    workdir.open_for(config, path)
    system = system_lib.make_system(config)
    state = system.init_state()
    state = state.replace(params=jax.tree.map(lambda x: 2 * x, state.params))
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, {}, 0.5)
    return path, system, state


def image_config(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.update_from_flattened_dict(changes)
    return config


def run_eval_step(system, state, images, masks=None):
    """The run's own "probs" and "preds" of [B, S, S] uint8."""
    batch = {
        "images": images,
        "masks": np.zeros_like(images) if masks is None else masks,
        "labels": np.zeros(len(images), np.uint8),
    }
    return jax.device_get(system.eval_step(state, batch))


@pytest.fixture(scope="module")
def three_level(tmp_path_factory):
    """A run, and the file that was made of it."""
    folder = tmp_path_factory.mktemp("three_level")
    path, system, state = save_run(folder / "run", image_config())
    export.export(path, folder / "out" / "model.jaxlung")
    return folder / "out" / "model.jaxlung", system, state


def test_another_process_gives_the_runs_masks_without_flax(three_level, tmp_path):
    file, system, state = three_level
    size = system.settings.image_size
    rng = np.random.default_rng(0)
    records = array_source.ArraySource(4, size=size)
    images = {f"own_{i}": records[i].image for i in range(4)}
    # Higher than wide by less than the square: Pillow of any version shrinks and grows it alike.
    images["small"] = rng.integers(0, 256, (size - 5, size + 11), np.uint8)
    np.savez(tmp_path / "images.npz", **images)
    told = (file, tmp_path / "images.npz", tmp_path / "masks.npz", *UNWANTED)
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, *told], check=True, cwd=ROOT)
    got = np.load(tmp_path / "masks.npz")
    how = system.settings.resize
    fitted = [resize.fit(x, np.zeros_like(x), size, how)[0] for x in images.values()]
    want = run_eval_step(system, state, np.stack(fitted + fitted[:3]))
    assert len(np.unique(want["preds"])) > 1
    for i in range(4):
        np.testing.assert_array_equal(got[f"own_{i}"], want["preds"][i])
    probs = resize.unfit(want["probs"][4], *images["small"].shape, how)
    np.testing.assert_array_equal(got["small"], system.task.postprocess(probs[..., None]))


def test_any_number_and_size_of_images(three_level):
    file, system, state = three_level
    size = system.settings.image_size + export.multiples(system)[0]
    images = np.random.default_rng(1).integers(0, 256, (3, size, size), np.uint8)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    apply = jax.jit(functools.partial(system.model.apply, train=False))
    logits = jax.device_get(apply(variables, system.scale(images)))
    probs, preds = exported.load(file).run(images)
    np.testing.assert_allclose(probs, special.expit(logits[..., 0]), atol=1e-5)
    np.testing.assert_array_equal(preds, system.task.postprocess(np.asarray(probs)[..., None]))


def test_the_manifest_says_what_it_is(three_level):
    file, system, state = three_level
    network = exported.load(file)
    manifest = network.manifest
    assert "No medical device" in manifest["notice"]
    assert manifest["config"]["model_name"] == "unet"
    assert manifest["levels"] == ["outside", "lung", "infection"]
    assert manifest["checkpoint"]["step"] == int(state.step)
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["inputs"]["images"]["shape"] == ["b", "2*h", "2*w"]
    assert manifest["versions"]["jax"] == jax.__version__
    probs = np.float32([0, 62 / 255, 62.5 / 255, 63 / 255, 190 / 255, 191 / 255, 1])
    want = system.task.postprocess(probs.reshape(1, 1, -1, 1)).ravel()
    np.testing.assert_array_equal(network.levels(probs), want)
    np.testing.assert_array_equal(want, [0, 0, 0, 1, 1, 2, 2])


@pytest.mark.slow
def test_ct_gives_the_runs_probabilities_inside_the_lungs(tmp_path):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    path, system, state = save_run(tmp_path / "run", config)
    export.export(path, tmp_path / "ct.jaxlung")
    network = exported.load(tmp_path / "ct.jaxlung")
    assert network.needs_lungs
    item = volume_source.VolumeSource([(6, 20, 22)])[0]
    lungs = item.mask & 1 > 0
    want = volume_inference.predict_record(system, state, item)
    got = network.probs(item.image, lungs)
    np.testing.assert_allclose(got, want, atol=1e-5)
    far = np.abs(want - system.task.threshold) > 1e-4
    found = network.predict(item.image, lungs)
    np.testing.assert_array_equal(found[far], (want > system.task.threshold)[far])
    assert not found[~lungs].any()
    with pytest.raises(ValueError, match="the network sees lungs alone"):
        network.predict(item.image)
    with pytest.raises(ValueError, match=r"voxels from 0.01 to 50 mm apart, got 0 x 1 x 1 mm"):
        network.predict(item.image, lungs, (0.0, 1.0, 1.0))


def test_values_that_are_no_hu_are_told_by_exported_and_loaded_networks(tmp_path, caplog):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    path, _, _ = save_run(tmp_path / "run", config)
    export.export(path, tmp_path / "ct.jaxlung")
    image = np.arange(256, dtype=np.int16).repeat(8).reshape(8, 16, 16)
    for network in (exported.load(tmp_path / "ct.jaxlung"), jaxlung.load(path)):
        caplog.clear()
        network.predict(image, np.ones(image.shape, bool))
        assert "the image has values from 0 to 255: nothing below 0 HU" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bilinear_is_pillows_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width, rows, columns = (int(x) for x in rng.integers(1, 90, 4))
        array = (255 * rng.random((height, width))).astype(dtype)
        # One pass at a time: Pillow 13 chooses their order by the shape.
        want = Image.fromarray(array)
        for shape in ((columns, height), (columns, rows)):
            want = want.resize(shape, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(exported.bilinear(array, rows, columns), want)


@pytest.mark.parametrize("how", resize.RESIZES)
@pytest.mark.parametrize("shape", [(7, 20), (16, 31), (40, 9), (1, 64)])
def test_images_and_lungs_fit_and_return_as_in_training(how, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, np.uint8)
    lungs = rng.random(shape) > 0.5
    fitted, mask = resize.fit(image, lungs.astype(np.uint8), 16, how)
    # A grey level apart where Pillow 13 takes the passes in another order.
    np.testing.assert_allclose(exported.fit(image, 16, how).astype(int), fitted, atol=1)
    assert np.mean(exported.fit_mask(lungs, 16, how) != mask) < 0.02
    probs = rng.random((16, 16), np.float32)
    want = resize.unfit(probs, *shape, how)
    np.testing.assert_allclose(exported.unfit(probs, *shape, how), want, atol=1e-6)


def rewrite(file, target, changes):
    """A copy of the zip; None leaves a member out."""
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            if changes.get(name, b"") is not None:
                copy.writestr(name, changes.get(name) or archive.read(name))
    return target


def test_damaged_and_foreign_files_are_told_in_a_sentence(three_level, tmp_path):
    file = three_level[0]
    content = file.read_bytes()
    manifest = exported.load(file).manifest
    newer = json.dumps(manifest | {"format_version": 2}).encode()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    (tmp_path / "flipped").write_bytes(flipped)
    (tmp_path / "short").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "foreign", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    rewrite(file, tmp_path / "newer", {exported.MANIFEST: newer})
    rewrite(file, tmp_path / "other", {exported.MANIFEST: b"[]"})
    rewrite(file, tmp_path / "swapped", {exported.PROGRAM: b"no program"})
    rewrite(file, tmp_path / "without", {exported.PROGRAM: None})
    for name in (*[path.name for path in tmp_path.iterdir()], "absent"):
        with pytest.raises(ValueError, match=name) as caught:
            exported.load(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


def test_images_of_another_kind_are_refused(three_level):
    network = exported.load(three_level[0])
    for image in (np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"image: want \[H, W\] uint8"):
            network.predict(image)


def test_a_threshold_that_is_not_chosen_yet_is_told(tmp_path):
    config = config_file.load(config_file.resolve("v7_diagnosis:quick"))
    assert config.task.threshold == 0
    path = epath.Path(tmp_path)
    with pytest.raises(ValueError, match="finish the run first"):
        export.with_known_threshold(config, path)
    (path / "summary_test.json").write_text('{"threshold": 0.25}')
    assert export.with_known_threshold(config, path).task.threshold == 0.25
    assert config.task.threshold == 0
