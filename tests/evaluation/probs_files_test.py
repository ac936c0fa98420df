"""Probabilities as files: levels, names, the grid of a CT, and means over several files."""

import dataclasses
import os
import pathlib

import nibabel
import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.data import record
from jaxlung.evaluation import probs_files
from jaxlung.volume import grid
from tests import array_source, volume_source

ITEM = array_source.ArraySource(1, size=8)[0]


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def write(folder, probs, image_id="a/b.jpg"):
    folder = epath.Path(folder)
    item = dataclasses.replace(ITEM, image_id=image_id)
    probs_files.write(folder, item, np.full((8, 8), probs, np.float32))
    return folder / probs_files.name_file(image_id, ".png")


def test_a_level_is_255_times_the_probability(tmp_path):
    probs = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    probs_files.write(epath.Path(tmp_path), dataclasses.replace(ITEM, image_id="a"), probs)
    levels = read(tmp_path / "a.png")
    assert levels.dtype == np.uint8
    np.testing.assert_allclose(levels / 255, probs, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("image_id", "want"),
    [
        ("case_1", "case_1.png"),
        ("Test/COVID-19/covid_1", "Test/COVID-19/covid_1.png"),
        ("images/a.png", "images/a.png"),
        ("images/a.jpg", "images/a.jpg.png"),
        ("1.2.840.1", "1.2.840.1.png"),
        ("/elsewhere/a.png", "elsewhere/a.png"),
        ("../../a", "a.png"),
    ],
)
def test_names_are_the_ids_and_stay_below_the_folder(image_id, want, tmp_path):
    assert probs_files.name_file(image_id, ".png") == want
    assert write(tmp_path, 0.5, image_id) == epath.Path(tmp_path) / want
    assert (tmp_path / want).exists()


def test_a_name_that_is_too_long_with_its_suffix_is_replaced_and_stays_apart(tmp_path):
    names = ["a/" + "x" * 250 + f"{i}.jpg" for i in range(2)]
    paths = [write(tmp_path, 0.5, name) for name in names]
    assert sorted((tmp_path / "a").iterdir()) == sorted(map(pathlib.Path, paths))
    assert len(set(paths)) == 2
    longest = "a/" + "x" * 251 + ".png"
    assert write(tmp_path, 0.5, longest) == epath.Path(tmp_path) / longest


def test_a_mean_is_of_levels(tmp_path):
    paths = [write(tmp_path / str(i), p) for i, p in enumerate((0.0, 0.2, 1.0))]
    target = epath.Path(tmp_path / "mean" / "a.png")
    probs_files.write_mean(paths, target)
    np.testing.assert_array_equal(read(target), round((0 + 51 + 255) / 3))


def test_one_file_takes_no_room_twice_and_is_replaced_when_there_are_more(tmp_path):
    paths = [write(tmp_path / str(i), p) for i, p in enumerate((0.2, 0.4))]
    target = epath.Path(tmp_path / "mean.png")
    for _ in range(2):
        probs_files.write_mean(paths[:1], target)
        assert os.stat(target).st_ino == os.stat(paths[0]).st_ino
    probs_files.write_mean(paths, target)
    np.testing.assert_array_equal(read(target), 76)  # (51 + 102) / 2, rounded to even
    np.testing.assert_array_equal(read(paths[0]), 51)


def test_one_file_is_copied_where_links_can_not_be(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    path, target = write(tmp_path, 0.2), epath.Path(tmp_path / "copy.png")
    probs_files.write_mean([path], target)
    assert target.read_bytes() == path.read_bytes()


def test_files_of_different_sizes_are_told(tmp_path):
    paths = [write(tmp_path / str(i), 0.5) for i in range(2)]
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(paths[1])
    with pytest.raises(ValueError, match=r"1/a/b\.jpg\.png: want the shape \(8, 8\) of"):
        probs_files.write_mean(paths, epath.Path(tmp_path / "mean.png"))


def test_ct_files_are_on_the_grid_of_the_scan_and_have_means(tmp_path):
    item: record.VolumeRecord = volume_source.VolumeSource([(3, 4, 5)])[0]
    file_grid = grid.Grid(item.shape, item.affine)
    np_rng = np.random.default_rng(0)
    each, paths = [], []
    for i in range(2):
        probs = np_rng.random(item.image.shape, np.float32)
        folder = epath.Path(tmp_path / str(i))
        probs_files.write(folder, item, probs)
        paths.append(folder / f"{item.image_id}.nii.gz")
        each.append(grid.from_canonical(probs, file_grid))
    for probs, path in zip(each, paths, strict=True):
        image = nibabel.load(path)
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(image.affine, item.affine, atol=1e-5)
        np.testing.assert_allclose(image.get_fdata() / 255, probs, atol=0.5 / 255 + 1e-6)
    target = epath.Path(tmp_path / "mean.nii.gz")
    probs_files.write_mean(paths, target)
    image = nibabel.load(target)
    np.testing.assert_allclose(image.affine, item.affine, atol=1e-5)
    np.testing.assert_allclose(image.get_fdata() / 255, np.mean(each, axis=0), atol=1.01 / 255)
