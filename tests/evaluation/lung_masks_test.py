"""Lungs found by one run's network, for another run."""

import functools
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from jaxlung import job
from jaxlung.config import config_file, run_files, workdir
from jaxlung.data import record
from jaxlung.data.sources import derived
from jaxlung.data.splits import splits_file
from jaxlung.data.transforms import resize
from jaxlung.evaluation import lung_masks
from jaxlung.training import checkpoint, system
from tests import array_source

REAL = config_file.load(config_file.resolve("v7_diagnosis")).data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def make_config(spec, data_dir, **changes):
    config = config_file.load(config_file.resolve(spec))
    config.data.data_dir = str(data_dir)
    config.update_from_flattened_dict({"epochs": 1} | changes)
    return config


@pytest.fixture(scope="module")
def lungs_run(tmp_path_factory, data_dir):
    path = epath.Path(tmp_path_factory.mktemp("lungs"))
    job.run(make_config("v7_lungs:quick", data_dir), path)
    return path


class Unread:
    """A source whose images must not be looked at."""

    def __init__(self, source):
        self._source = source

    def __len__(self):
        return len(self._source)

    def people(self):
        return self._source.people()


def test_found_lungs_take_the_place_of_the_annotated_ones_at_the_stored_size():
    source = array_source.ArraySource(2, size=24)
    masks = np.zeros((2, 8, 8), bool)
    masks[1, :4] = True
    changed = derived.WithLungs(source, masks, "squash")
    assert changed.people() == source.people()
    assert not (changed[0].mask & record.LUNG).any()
    want = np.zeros((24, 24), bool)
    want[:12] = True
    np.testing.assert_array_equal((changed[1].mask & record.LUNG) > 0, want)
    for before, after in zip(source, [changed[0], changed[1]], strict=False):
        np.testing.assert_array_equal(before.mask & 2, after.mask & 2)  # Infection stays.
        assert before.image_id == after.image_id


@pytest.mark.slow
def test_a_diagnosis_in_predicted_lungs_runs_and_keeps_the_masks(lungs_run, data_dir, tmp_path):
    path = epath.Path(tmp_path / "run")
    spec = "v7_diagnosis:lungs=predicted,quick"
    job.run(make_config(spec, data_dir, lungs_run=str(lungs_run)), path)
    assert (path / "report.html").exists()
    splits = system.open_splits(make_config(spec, data_dir))
    once = lung_masks.replace(splits, str(lungs_run), path)
    unread = {name: Unread(source) for name, source in splits.items()}
    kept = lung_masks.replace(unread, str(lungs_run), path)
    np.testing.assert_array_equal(kept["test"]._masks, once["test"]._masks)
    fewer = {"test": derived.Subset(splits["test"], [1])}  # Other images: found anew.
    found = lung_masks.replace(fewer, str(lungs_run), path)["test"]
    np.testing.assert_array_equal(found._masks, once["test"]._masks[1:2])


SIZE = 32  # Of the network's images; those of the sources are smaller.
THRESHOLD = 0.5  # Near what an untrained network says.


@pytest.fixture(scope="module")
def sources():
    return {
        name: array_source.ArraySource(3, size=24, seed=seed)
        for seed, name in enumerate(run_files.SPLITS)
    }


def unread(sources):
    return {name: Unread(source) for name, source in sources.items()}


def make_run(path, seed=0):
    """A run that counts as finished; its network is untrained."""
    config = config_file.load(config_file.resolve("v7_lungs:quick"))
    config.seed, config.task.threshold = seed, THRESHOLD
    workdir.open_for(config, path)
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, system.make_system(config).init_state(), {}, 0.5)
    splits_file.write(path / "splits.csv", {})
    (path / "finished.txt").write_text("0")


@pytest.fixture(scope="module")
def run_and_kept(tmp_path_factory, sources):
    """Two lung runs, and the folder of a run that keeps the lungs of the first."""
    folder = epath.Path(tmp_path_factory.mktemp("runs"))
    make_run(folder / "lungs")
    make_run(folder / "others", seed=1)
    (folder / "run").mkdir()
    lung_masks.replace(sources, str(folder / "lungs"), folder / "run")
    return folder


@pytest.fixture
def folder(run_and_kept, tmp_path):
    """A copy of both that a test may change."""
    shutil.copytree(run_and_kept, tmp_path / "copy")
    return epath.Path(tmp_path / "copy")


def test_masks_are_what_the_network_says_of_each_image(run_and_kept, sources):
    config = workdir.load_config(run_and_kept / "lungs")
    parts = system.make_system(config)
    state = parts.init_state()
    found = lung_masks.replace(unread(sources), str(run_and_kept / "lungs"), run_and_kept / "run")
    source = sources["test"]
    fitted = [resize.fit(item.image, item.mask, SIZE, "squash") for item in source]
    images = np.float32([(x - x.min()) / np.ptp(x) for x, _ in fitted])[..., None]
    logits = jax.jit(functools.partial(parts.model.apply, train=False))(
        {"params": state.params}, images
    )
    probs = 1 / (1 + np.exp(-np.asarray(logits[..., 0], np.float64)))
    got, want = found["test"]._masks, probs > THRESHOLD
    assert got.shape == (3, SIZE, SIZE)
    assert got.dtype == bool
    assert np.mean(got == want) > 0.999  # Rounding may change a pixel.
    assert 0.05 < np.mean(want) < 0.95


def test_a_lung_run_that_was_calibrated_meanwhile_is_the_same_network(folder, sources):
    config = workdir.load_config(folder / "lungs")
    config.calibrate = True
    workdir.open_for(config, folder / "lungs")
    start_training(folder / "run")
    lung_masks.replace(unread(sources), str(folder / "lungs"), folder / "run")


def test_a_lung_run_that_was_moved_finds_its_masks_again(folder, sources):
    (folder / "lungs").rename(folder / "moved")
    start_training(folder / "run")
    lung_masks.replace(unread(sources), str(folder / "moved"), folder / "run")


def test_without_the_lung_run_the_masks_that_are_kept_serve(folder, sources, caplog):
    (folder / "lungs").rename(folder / "moved")
    before = lung_masks.replace(unread(sources), str(folder / "moved"), folder / "run")
    lung_masks.require_run(str(folder / "lungs"), folder / "run", REAL)
    with caplog.at_level("INFO", logger="absl"):
        after = lung_masks.replace(unread(sources), str(folder / "lungs"), folder / "run")
    assert "lungs is gone; using the lungs kept in" in caplog.text
    for name in sources:
        np.testing.assert_array_equal(before[name]._masks, after[name]._masks)
        assert before[name]._how == after[name]._how == "squash"


def test_without_the_lung_run_masks_of_other_images_do_not_serve(folder, sources):
    (folder / "lungs").rename(folder / "moved")
    fewer = sources | {"test": derived.Subset(sources["test"], [0, 1])}
    with pytest.raises(
        ValueError, match=r"holds no finished run, and .*run does not keep the lung"
    ):
        lung_masks.replace(fewer, str(folder / "lungs"), folder / "run")


def test_another_network_finds_the_lungs_anew_but_not_for_a_trained_run(folder, sources):
    with pytest.raises(TypeError, match="'Unread' object is not subscriptable"):
        lung_masks.replace(unread(sources), str(folder / "others"), folder / "run")
    start_training(folder / "run")
    with pytest.raises(ValueError, match=r"lungs_run: .*others is another network than the one"):
        lung_masks.replace(sources, str(folder / "others"), folder / "run")


def start_training(path):
    (path / "checkpoints" / "1").mkdir(parents=True)


@pytest.mark.parametrize("damage", [lambda x: x[: len(x) // 2], lambda x: b"", lambda x: b"text"])
def test_damaged_masks_are_told_and_are_none(tmp_path, damage, caplog):
    file = epath.Path(tmp_path) / "lungs_test.npz"
    lungs = lung_masks.Lungs(np.random.default_rng(0).random((2, 9, 9)) > 0.5, "pad", "a network")
    lung_masks._save(file, lungs, ["a", "b"])
    loaded = lung_masks._load(file, ["a", "b"])
    np.testing.assert_array_equal(loaded.masks, lungs.masks)
    assert (loaded.resize, loaded.made_by) == ("pad", "a network")
    assert lung_masks._load(file, ["a", "c"]) is None
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level("WARNING"):
        assert lung_masks._load(file, ["a", "b"]) is None
    assert "lungs_test.npz: damaged" in caplog.messages[0]


def test_images_that_the_lung_network_learned_from_are_told(tmp_path, caplog):
    source = array_source.ArraySource(4)
    run = epath.Path(tmp_path)
    splits_file.write(run / "splits.csv", {"train": source, "test": source})
    with caplog.at_level("WARNING"):
        lung_masks._warn_of_overlap(run, {"test": derived.Subset(source, [1, 2])})
    assert not caplog.messages  # In that file the last split of an image counts: "test".
    splits_file.write(run / "splits.csv", {"train": derived.Subset(source, [0, 1])})
    with caplog.at_level("WARNING"):
        lung_masks._warn_of_overlap(run, {"test": derived.Subset(source, [1, 2])})
    assert caplog.messages[0].startswith("1 of 2 test images trained the lung network")


@pytest.mark.parametrize(
    ("spec", "task"), [("covidqu:quick", "three_level"), ("covid19_ct:target=lungs", "volume_mask")]
)
def test_what_is_no_run_of_lungs_is_told(spec, task, tmp_path):
    run = epath.Path(tmp_path)
    with pytest.raises(ValueError, match=r"lungs_run: .* holds no finished run; train one"):
        lung_masks.require_run(str(run), run / "run", REAL)
    workdir.open_for(config_file.load(config_file.resolve(spec)), run)
    (run / "finished.txt").write_text("1")
    with pytest.raises(ValueError, match=f"is a run of task {task}, want lung masks of X-rays"):
        lung_masks.require_run(str(run), run / "run", REAL)
