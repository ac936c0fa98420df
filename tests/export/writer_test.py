"""The exported file: its masks are the run's, any network fits, damage is an error."""

import functools
import io
import json
import math
import os
import pathlib
import pickle
import re
import shutil
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
from jaxlung.config import config_file, workdir
from jaxlung.data.transforms import resize
from jaxlung.export import writer
from jaxlung.exported import reader
from jaxlung.predict import network as network_lib
from jaxlung.training import checkpoint
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from tests import array_source, volume_source
from tests.report import report_summary

# What a machine that only predicts hasn't got: not even the rest of jaxlung.
UNWANTED = ("jaxlung", "flax", "optax", "orbax", "ml_collections", "etils", "absl", "PIL", "grain")
IN_ANOTHER_PROCESS = """
import sys, numpy as np
sys.modules |= dict.fromkeys(sys.argv[4:])  # To import one of them is an error.
import reader
network = reader.load(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: network.predict(images[name]) for name in images})
"""


def save_run(path, config):
    """Saves a run of an untrained network with outputs on both sides of its thresholds."""
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
    """Returns the run's own "probs" and "preds" for images [B, S, S] uint8."""
    batch = {
        "images": images,
        "masks": np.zeros_like(images) if masks is None else masks,
        "labels": np.zeros(len(images), np.uint8),
    }
    return jax.device_get(system.eval_step(state, batch))


@pytest.fixture(scope="module")
def three_level(tmp_path_factory):
    """Returns an exported file, and the system and state of its run."""
    folder = tmp_path_factory.mktemp("three_level")
    path, system, state = save_run(folder / "run", image_config())
    writer.export([path], folder / "out" / "model.jaxlung")
    return folder / "out" / "model.jaxlung", system, state


def test_a_copy_of_the_reader_alone_gives_the_runs_masks(three_level, tmp_path):
    file, system, state = three_level
    size = system.settings.image_size
    rng = np.random.default_rng(0)
    records = array_source.ArraySource(4, size=size)
    images = {f"own_{i}": records[i].image for i in range(4)}
    # Higher than wide by less than the square: Pillow of any version shrinks and grows it alike.
    images["small"] = rng.integers(0, 256, (size - 5, size + 11), np.uint8)
    np.savez(tmp_path / "images.npz", **images)
    told = (file, tmp_path / "images.npz", tmp_path / "masks.npz", *UNWANTED)
    shutil.copy(reader.__file__, tmp_path)
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, *told], check=True, cwd=tmp_path)
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
    size = system.settings.image_size + system.model.input_multiples()[0]
    images = np.random.default_rng(1).integers(0, 256, (3, size, size), np.uint8)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    apply = jax.jit(functools.partial(system.model.apply, train=False))
    logits = jax.device_get(apply(variables, system.step.scale(images)))
    probs, preds = reader.load(file).run(images)
    np.testing.assert_allclose(probs, special.expit(logits[..., 0]), atol=1e-5)
    np.testing.assert_array_equal(preds, system.task.postprocess(np.asarray(probs)[..., None]))


def test_the_manifest_says_what_it_is(three_level):
    file, system, state = three_level
    network = reader.load(file)
    manifest = network.manifest
    assert "No medical device" in manifest["notice"]
    assert manifest["format"] == "jaxlung.exported"  # As in all files so far.
    (member,) = manifest["members"]
    assert member["config"]["model_name"] == "unet"
    assert manifest["levels"] == ["outside", "lung", "infection"]
    assert member["checkpoint"]["step"] == int(state.step)
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["inputs"]["images"]["shape"] == ["b", "2*h", "2*w"]
    assert manifest["versions"]["jax"] == jax.__version__
    probs = np.float32([0, 62 / 255, 62.5 / 255, 63 / 255, 190 / 255, 191 / 255, 1])
    want = system.task.postprocess(probs.reshape(1, 1, -1, 1)).ravel()
    np.testing.assert_array_equal(network.levels(probs), want)
    np.testing.assert_array_equal(want, [0, 0, 0, 1, 1, 2, 2])


@pytest.mark.slow
def test_several_runs_become_one_file_that_predicts_their_mean(tmp_path):
    runs = [
        save_run(tmp_path / f"run_{seed}", image_config(**{"seed": seed, **changes}))
        for seed, changes in enumerate(({}, {"model.widths": (4, 8, 16)}))
    ]
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    wanted = [run_eval_step(system, state, images) for _, system, state in runs]
    mean = np.mean([each["probs"] for each in wanted], axis=0)
    writer.export([path for path, _, _ in runs], tmp_path / "mean.jaxlung")
    loaded = reader.load(tmp_path / "mean.jaxlung")
    probs, preds = loaded.run(images, None)
    np.testing.assert_allclose(probs, mean, atol=1e-6)
    assert np.mean(preds != loaded.levels(mean)) < 1e-3
    assert [x["config"]["seed"] for x in loaded.manifest["members"]] == [0, 1]
    probs, _ = loaded.run(np.zeros((1, 40, 40), np.uint8), None)  # Multiples of both networks'.
    assert probs.shape == (1, 40, 40)


def test_thresholds_of_several_runs_are_averaged(tmp_path):
    config = config_file.load(config_file.resolve("folder:quick"))
    paths = []
    for threshold in (0.3, 0.6):
        config.task.threshold = threshold
        paths.append(save_run(tmp_path / str(threshold), config)[0])
    writer.export(paths, tmp_path / "mean.jaxlung")
    assert reader.load(tmp_path / "mean.jaxlung").manifest["borders"] == [pytest.approx(0.45)]


def write_temperature(path, temperature):
    weights = checkpoint.selected_weights("last", path)
    fields = dict(step=0, threshold=0.5, temperature=temperature, weights_digest=weights)
    summary = report_summary.make("mask", {}, split="validation", **fields)
    (path / "summary_validation.json").write_text(json.dumps(summary))


def test_each_of_several_runs_has_its_own_temperature(tmp_path):
    config = config_file.load(config_file.resolve("folder:quick"))
    config.task.threshold = 0.3
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    paths, tempered = [], []
    for seed, temperature in enumerate((None, 2.0, 0.5)):
        config.seed, config.calibrate = seed, temperature is not None
        path, system, state = save_run(tmp_path / str(seed), config)
        if temperature:
            write_temperature(path, temperature)
        batch = {"images": images, "masks": np.zeros_like(images)}
        # Not the logit of a probability, which float32 may round to 1.
        logits = np.asarray(system.logits_step(state, batch), np.float64)
        paths.append(path)
        tempered.append(special.expit(logits / (temperature or 1)))
    writer.export(paths, tmp_path / "mean.jaxlung")
    loaded = reader.load(tmp_path / "mean.jaxlung")
    np.testing.assert_allclose(loaded.run(images, None)[0], np.mean(tempered, axis=0), atol=1e-5)
    assert [x["temperature"] for x in loaded.manifest["members"]] == [1, 2, 0.5]
    odds = 0.3 / 0.7
    moved = [odds ** (1 / x) / (1 + odds ** (1 / x)) for x in (1, 2, 0.5)]
    assert loaded.manifest["borders"] == [pytest.approx(np.mean(moved))]


def test_runs_that_do_not_go_together_are_refused(tmp_path):
    first, _, _ = save_run(tmp_path / "first", image_config())
    other, _, _ = save_run(tmp_path / "other", image_config(**{"data.image_size": 64}))
    with pytest.raises(
        ValueError, match=r"other and .*first can't be one file: size is \[64, 64\]"
    ):
        writer.export([first, other], tmp_path / "mean.jaxlung")
    with pytest.raises(ValueError, match=r"first is named twice"):
        writer.export([first, first], tmp_path / "mean.jaxlung")
    assert not (tmp_path / "mean.jaxlung").exists()


def test_weights_in_half_precision_take_half_the_bytes(tmp_path):
    path, system, state = save_run(tmp_path / "run", image_config(**{"model.widths": (16, 32)}))
    sizes = {}
    for half in (False, True):
        file = tmp_path / f"{half}.jaxlung"
        writer.export([path], file, half=half)
        with zipfile.ZipFile(file) as archive:
            sizes[half] = sum(
                x.file_size - 128 for x in archive.infolist() if x.filename.startswith("weights/")
            )
    assert sizes[False] == 2 * sizes[True]
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    want = run_eval_step(system, state, images)["probs"]
    got, _ = reader.load(tmp_path / "True.jaxlung").run(images, None)
    assert np.any(got != want)
    # The program computes in float32: it is the network of the rounded weights.
    rounded = state.replace(
        **jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), state.network)
    )
    want = run_eval_step(system, rounded, images)["probs"]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_weight_that_half_precision_can_not_hold_is_told(tmp_path):
    path, _, _ = save_run(tmp_path / "run", image_config())
    with pytest.raises(ValueError, match=r"--half: ONNX files hold float32"):
        writer.export([path], tmp_path / "x.onnx", half=True)
    with pytest.raises(ValueError, match=r"--half: 0/params/head/kernel is too large for float16"):
        writer.halve({"0/params/head/kernel": np.array([7e4], np.float32)})


def test_ct_gives_the_runs_probabilities_inside_the_lungs(tmp_path):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    path, system, state = save_run(tmp_path / "run", config)
    writer.export([path], tmp_path / "ct.jaxlung")
    network = reader.load(tmp_path / "ct.jaxlung")
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
    with pytest.raises(ValueError, match="the network sees the lungs alone"):
        network.predict(item.image)
    with pytest.raises(ValueError, match=r"voxels from 0.01 to 50 mm apart, got 0 x 1 x 1 mm"):
        network.predict(item.image, lungs, (0.0, 1.0, 1.0))


def test_values_that_are_no_hu_are_told_by_exported_and_loaded_networks(tmp_path, caplog):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    path, _, _ = save_run(tmp_path / "run", config)
    writer.export([path], tmp_path / "ct.jaxlung")
    image = np.arange(256, dtype=np.int16).repeat(8).reshape(8, 16, 16)
    for network in (reader.load(tmp_path / "ct.jaxlung"), jaxlung.load(path)):
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
        np.testing.assert_array_equal(reader.bilinear(array, rows, columns), want)


@pytest.mark.parametrize("how", resize.RESIZES)
@pytest.mark.parametrize("shape", [(7, 20), (16, 31), (40, 9), (1, 64)])
def test_images_and_lungs_fit_and_return_as_in_training(how, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, np.uint8)
    lungs = rng.random(shape) > 0.5
    fitted, mask = resize.fit(image, lungs.astype(np.uint8), 16, how)
    # A grey level apart where Pillow 13 takes the passes in another order.
    np.testing.assert_allclose(reader.fit(image, 16, how).astype(int), fitted, atol=1)
    assert np.mean(reader.fit_mask(lungs, 16, how) != mask) < 0.02
    probs = rng.random((16, 16), np.float32)
    want = resize.unfit(probs, *shape, how)
    np.testing.assert_allclose(reader.unfit(probs, *shape, how), want, atol=1e-6)


def rewrite(file, target, changes, compression=zipfile.ZIP_STORED):
    """Copies the zip with other members; None leaves a member out."""
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(target, "w", compression) as copy:
        for name in archive.namelist():
            if changes.get(name, b"") is not None:
                copy.writestr(name, changes.get(name) or archive.read(name))
    return target


def test_damaged_and_foreign_files_are_told_in_a_sentence(three_level, tmp_path):
    file = three_level[0]
    content = file.read_bytes()
    manifest = reader.load(file).manifest
    older = json.dumps(manifest | {"format_version": 1}).encode()
    newer = json.dumps(manifest | {"format_version": 3}).encode()
    shown = json.dumps(manifest | {"notice": "For diagnosis."}).encode()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    (tmp_path / "flipped").write_bytes(flipped)
    (tmp_path / "short").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "foreign", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    rewrite(file, tmp_path / "older", {reader.MANIFEST: older})
    rewrite(file, tmp_path / "newer", {reader.MANIFEST: newer})
    rewrite(file, tmp_path / "shown", {reader.MANIFEST: shown})
    rewrite(file, tmp_path / "other", {reader.MANIFEST: b"[]"})
    rewrite(file, tmp_path / "deep", {reader.MANIFEST: b"[" * 100_000})
    rewrite(file, tmp_path / "packed", {}, zipfile.ZIP_DEFLATED)
    os.mkfifo(tmp_path / "pipe")
    longer = bytearray(content)
    place = longer.rindex(b"PK\x01\x02")  # The last member's entry, and both its sizes.
    longer[place + 20 : place + 28] = (1 << 30).to_bytes(4, "little") * 2
    (tmp_path / "longer").write_bytes(longer)
    rewrite(file, tmp_path / "swapped", {reader.PROGRAM: b"no program"})
    rewrite(file, tmp_path / "without", {reader.PROGRAM: None})
    for name in (*[path.name for path in tmp_path.iterdir()], "absent"):
        with pytest.raises(ValueError, match=name) as caught:
            reader.load(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


def forge(file, target, **changes):
    """Copies the zip with other fields in its manifest, and with matching digests."""
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read(reader.MANIFEST)) | changes
    manifest[reader.DIGEST] = reader.digest(manifest)
    return rewrite(file, target, {reader.MANIFEST: json.dumps(manifest).encode()})


VOLUMES = dict(
    spacing_mm=[1.0, 0.0, 0.7],
    overlap=0.5,
    batch_size=2,
    keep_largest=1,
    crop_to_lungs=True,
    mirror=False,
    inside_lungs=True,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("task", x) for x in (None, 3, ["mask"])],
        *[("records", x) for x in (None, "slices", ["images"])],
        *[("levels", x) for x in (3, "abc", [], ["a"], ["a", "b", 3], ["a", "b", ""], ["a"] * 300)],
        *[("borders", x) for x in (0.5, [0.5], [0.7, 0.2], [0.1, 2], [0.1, "0.2"], [False, True])],
        ("borders", [0.1, math.nan]),
        *[("size", x) for x in (32, [32], [32, 32, 32], [32.0, 32.0], [0, 0], [True, True])],
        *[("size", x) for x in ([32, 16], [-32, -32], [10**5, 10**5], [33, 33])],
        *[("resize", x) for x in (None, "crop", 3)],
        *[("inputs", x) for x in (None, [], {}, {"masks": {}}, {"images": {}, "lungs": {}})],
        ("inputs", {"images": {}, "masks": {}}),
        *[("volumes", x) for x in ({}, [], VOLUMES)],
        *[("sha256", x) for x in (None, [], "x", {"a": "b"})],
    ],
)
def test_a_forged_manifest_is_refused(three_level, tmp_path, field, value):
    forged = forge(three_level[0], tmp_path / "model.jaxlung", **{field: value})
    with pytest.raises(ValueError, match=r"model.jaxlung: ") as caught:
        reader.load(forged)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_values_of_volumes_are_within_bounds():
    like = {"records": "volumes", "task": "mask", "levels": ["no", "lung"], "borders": [0.5]}
    like |= {"size": [8, 16, 16], "resize": None, "inputs": {"images": {}}}

    def wrong(**changes):
        judged = reader._judge(like | {"volumes": VOLUMES | changes})
        return next((name for name, is_good in judged if not is_good), None)

    assert wrong() is None
    for field, values in {
        "spacing_mm": (
            None,
            [1.0, 1.0],
            [1.0, 1.0, 1e-5],
            [1.0, -1.0, 1.0],
            [1, 1, 1e9],
            [1, 1, "1"],
        ),
        "overlap": (1.0, 0.999999, -0.1, math.nan, "0.5", None),
        "batch_size": (0, -1, 10**6, 1.5, True),
        "keep_largest": (-1, 0.5, None),
        "mirror": (1, None, "yes"),
    }.items():
        for value in values:
            assert wrong(**{field: value}) == f"volumes.{field}", value


def test_an_array_is_no_larger_than_its_bytes(three_level, tmp_path):
    file = three_level[0]
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read(reader.MANIFEST))
        name = min(x for x in archive.namelist() if x.endswith("kernel.npy"))
        content = archive.read(name)
    shape = re.search(rb"'shape': \((.*?)\)", content)[1]
    grown = content.replace(shape, b"9" * len(shape))
    for forged in (grown, content[:60], b"PK\3\4" + content, pickle.dumps(3)):
        manifest["sha256"][name] = reader.sha256(forged)
        manifest[reader.DIGEST] = reader.digest(manifest)
        changes = {name: forged, reader.MANIFEST: json.dumps(manifest).encode()}
        with pytest.raises(ValueError, match=r"kernel.npy is no array"):
            reader.load(rewrite(file, tmp_path / "model.jaxlung", changes))


def test_members_that_lie_in_each_other_are_not_unfolded(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b", bytes(100_000))
        item = archive.getinfo("b")
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("a", inner.getvalue())
        item.header_offset = 30 + len("a")  # Behind the header of "a", in its content.
        archive.filelist.append(item)
        archive.writestr(reader.MANIFEST, "{}")
    with pytest.raises(ValueError, match="its members are larger than the file allows"):
        reader.load(tmp_path / "x")


def test_no_changed_byte_changes_what_is_read(three_level, tmp_path):
    content, np_rng = three_level[0].read_bytes(), np.random.default_rng(0)
    members, num_refused = reader._read(three_level[0]), 0
    for place in np_rng.integers(0, len(content), 300):
        changed = bytearray(content)
        changed[place] ^= 1 << int(np_rng.integers(8))
        (tmp_path / "x").write_bytes(changed)
        try:
            got = reader._read(tmp_path / "x")
            reader._read_manifest(tmp_path / "x", got)
        except ValueError:
            num_refused += 1
        else:
            assert got == members  # Of the zip's own notes: a date, an attribute.
    assert num_refused > 250


def test_no_run_and_no_other_file_is_written_over(three_level, tmp_path):
    file = three_level[0]
    path = epath.Path(file.parent.parent / "run")
    (tmp_path / "image.png").write_bytes(b"P, no zip")
    (tmp_path / "export.md").write_text(reader.FORMAT)
    (tmp_path / "link").symlink_to(path)
    for output, why in (
        (path / "config.json", "is in the run"),
        (path / "new/model.jaxlung", "is in the run"),
        (tmp_path / "link/model.onnx", "is in the run"),
        (tmp_path, "is a folder, want a file"),
        (tmp_path / "image.png", "exists and is no export"),
        (tmp_path / "export.md", "exists and is no export"),
    ):
        with pytest.raises(ValueError, match=f"FILE: .* {why}"):
            writer.export([path], pathlib.Path(output))
    assert not (path / "new").exists()
    (tmp_path / "model.jaxlung").write_bytes(file.read_bytes().replace(b"params", b"damage"))
    writer.export([path], tmp_path / "model.jaxlung")  # An older export gives way.
    again = reader.load(tmp_path / "model.jaxlung")
    assert again.manifest["members"] == reader.load(file).manifest["members"]


def test_images_of_another_kind_are_refused(three_level):
    network = reader.load(three_level[0])
    for image in (np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"image: want \[H, W\] uint8"):
            network.predict(image)


def test_a_threshold_that_is_not_of_these_weights_is_refused_as_in_prediction(tmp_path):
    config = config_file.load(config_file.resolve("v7_diagnosis:quick"))
    path, _, _ = save_run(tmp_path, config)
    opened = (network_lib.load, functools.partial(writer.open_run, float32=False))
    summary = path / "summary_test.json"
    weights = checkpoint.selected_weights(config.selection, path)
    scored = report_summary.make("diagnosis", {"auc": 0.9})
    scored |= {"step": 0, "threshold": 0.25, "weights_digest": weights}
    for content in (None, {"weights_digest": "of others"}):
        summary.write_text(json.dumps(scored | content)) if content else None
        for load in opened:
            with pytest.raises(ValueError, match="no threshold was chosen for these weights"):
                load(path)
    for threshold in ("0.25", 1.5, float("nan")):
        summary.write_text(json.dumps(scored | {"threshold": threshold}))
        for load in opened:
            with pytest.raises(ValueError, match=r"summary_test.json: threshold: want a number"):
                load(path)
    summary.write_text(json.dumps(scored))
    assert [load(path).system.task.threshold for load in opened] == [0.25, 0.25]


def test_a_run_that_trains_is_not_exported(tmp_path):
    path, _, _ = save_run(tmp_path, image_config())
    with workdir.lock(path), pytest.raises(ValueError, match="another run is at work"):
        writer.export([path], tmp_path.parent / "model.jaxlung")
