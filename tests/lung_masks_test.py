"""Lungs found by one run's network, for another run."""

import io

import numpy as np
import pytest
from etils import epath

from jaxlung import config_file, job, lung_masks, system, workdir
from jaxlung.data import predicted, record, selection, splits_file
from tests import array_source


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
    changed = predicted.WithLungs(source, masks, "squash")
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
    fewer = {"test": selection.Subset(splits["test"], [1])}  # Other images: found anew.
    found = lung_masks.replace(fewer, str(lungs_run), path)["test"]
    np.testing.assert_array_equal(found._masks, once["test"]._masks[1:2])


@pytest.mark.parametrize("damage", [lambda x: x[: len(x) // 2], lambda x: b"", lambda x: b"text"])
def test_damaged_masks_are_told_and_found_again(tmp_path, damage, caplog):
    file, content = epath.Path(tmp_path) / "lungs_test.npz", io.BytesIO()
    masks = np.random.default_rng(0).random((2, 9, 9)) > 0.5
    np.savez_compressed(content, masks=np.packbits(masks, axis=-1), size=9, who=np.array(["a"]))
    file.write_bytes(content.getvalue())
    np.testing.assert_array_equal(lung_masks._load(file, ["a"]), masks)
    assert lung_masks._load(file, ["b"]) is None
    file.write_bytes(damage(content.getvalue()))
    with caplog.at_level("WARNING"):
        assert lung_masks._load(file, ["a"]) is None
    assert "lungs_test.npz: damaged" in caplog.messages[0]


def test_images_that_the_lung_network_learned_from_are_told(tmp_path, caplog):
    source = array_source.ArraySource(4)
    run = epath.Path(tmp_path)
    splits_file.write(run / "splits.csv", {"train": source, "test": source})
    with caplog.at_level("WARNING"):
        lung_masks._warn_of_overlap(run, {"test": selection.Subset(source, [1, 2])})
    assert not caplog.messages  # In that file the last split of an image counts: "test".
    splits_file.write(run / "splits.csv", {"train": selection.Subset(source, [0, 1])})
    with caplog.at_level("WARNING"):
        lung_masks._warn_of_overlap(run, {"test": selection.Subset(source, [1, 2])})
    assert caplog.messages[0].startswith("1 of 2 test images trained the lung network")


def test_what_is_no_run_of_lungs_is_told(tmp_path, data_dir):
    with pytest.raises(ValueError, match=r"lungs_run: .* holds no finished run; train one"):
        lung_masks.replace({}, str(tmp_path), epath.Path(tmp_path))
    run = epath.Path(tmp_path)
    config = make_config("covidqu:quick", data_dir)
    workdir.open_for(config, run)
    (run / "finished.txt").write_text("1")
    with pytest.raises(ValueError, match="is a run of task three_level, want lung masks"):
        lung_masks.replace({}, str(tmp_path), run)
