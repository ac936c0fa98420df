"""Scores of volumes: thresholds against counting, masks written where they were."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
from etils import epath

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.evaluation import probs_files, volume_scores
from jaxlung.evaluation import scores as scores_lib
from jaxlung.training import system as system_lib
from jaxlung.training import train_step, validation
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import grid
from tests import volume_source


def test_counts_at_every_threshold():
    np_rng = np.random.default_rng(0)
    probs = np_rng.random((5, 6, 7)).astype(np.float32)
    probs.flat[:19] = np.float32(train_step.THRESHOLDS)  # Not above itself.
    levels = (np_rng.random((5, 6, 7)) > 0.7).astype(np.uint8)
    got = volume_scores.threshold_confusions(levels, probs)
    for threshold, confusion in zip(train_step.THRESHOLDS, got, strict=True):
        preds = probs > np.float32(threshold)
        want = [[np.sum((levels == t) & (preds == p)) for p in (0, 1)] for t in (0, 1)]
        np.testing.assert_array_equal(confusion, want)


def test_bins_of_a_volume_are_those_of_the_voxels_that_are_judged():
    np_rng = np.random.default_rng(0)
    probs = np_rng.random((5, 6, 7)).astype(np.float32)
    levels, judged = (np_rng.random((2, 5, 6, 7)) < 0.4).astype(np.uint8)
    judged[2] = 0  # A slice without lungs.
    counts, sums = volume_scores.bin_voxels(levels, probs, judged > 0)
    picked = probs[judged > 0]
    edges = np.linspace(0, 1, 16)
    for level in (0, 1):
        want = np.histogram(probs[(judged > 0) & (levels == level)], edges)[0]
        np.testing.assert_array_equal(counts[:, level], want)
    want = np.histogram(picked, edges, weights=picked)[0]
    np.testing.assert_allclose(sums, want, rtol=1e-5)


def make_system(**changes):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    config.update_from_flattened_dict(changes)
    system = system_lib.make_system(config)
    # A network that knows HU: the source's infection is 600 HU above its lungs.
    step = jax.jit(lambda state, batch: (batch["images"] > -500).astype(jnp.float32))
    system.__dict__["window_step"] = step
    return system


def validate(system, items):
    whole = [volumes.load(item, system.settings) for item in items]
    on_device = [volume_inference.put(system, volume) for volume in whole]
    return validation.score_volumes(system, None, whole, on_device)


def oblique_item():
    """A volume whose file is RAS, turned by 20 degrees about the patient's long axis."""
    item = volume_source.VolumeSource([(9, 21, 30)])[0]
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) * [1.0, 1.0, 2.0]
    affine[:3, 3] = (-10.0, 20.0, 30.0)
    file_grid = grid.Grid((30, 21, 9), affine)
    assert grid.orientation(file_grid) == "RAS"
    return dataclasses.replace(item, shape=file_grid.shape, affine=file_grid.affine), file_grid


@pytest.mark.parametrize("crop", [False, True])
def test_predictions_lie_on_the_files_own_grid(tmp_path, crop):
    item, file_grid = oblique_item()
    system = make_system(**{"data.crop_to_lungs": crop})
    scored = volume_scores.score_split(system, None, [item], "test", epath.Path(tmp_path))
    assert scored.ids["shape"].tolist() == ["9 x 21 x 30"]
    assert scored.ids["spacing_mm"].tolist() == ["2 x 1 x 1"]
    np.testing.assert_array_equal(scored.confusions[0, 0, 1], 0)
    np.testing.assert_array_equal(scored.confusions[0, 1, 0], 0)
    infected = item.mask & record.INFECTION > 0
    np.testing.assert_allclose(scored.means["volume_ml"], infected.sum() * 2 / 1000)
    np.testing.assert_allclose(scored.means["hd95"], 0)
    image = nibabel.load(tmp_path / "predictions" / "case_0.nii.gz")
    np.testing.assert_allclose(image.affine, file_grid.affine, atol=1e-5)
    # The middle of the infection in world coordinates, from the file and by hand: canonical
    # (d, h, w) is (k, J - 1 - j, I - 1 - i) of a RAS file.
    found = nibabel.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0))
    slices, rows, columns = np.nonzero(infected)
    want = nibabel.affines.apply_affine(
        file_grid.affine, np.stack([29 - columns, 20 - rows, slices], axis=1)
    )
    np.testing.assert_allclose(found.mean(axis=0), want.mean(axis=0), atol=1e-4)
    assert len(found) == infected.sum()
    with np.load(tmp_path / "planes_test.npz") as planes:
        assert planes["0_axial_target"].any()
        np.testing.assert_array_equal(planes["0_coronal_pred"], planes["0_coronal_target"])


def test_probabilities_are_kept_on_the_files_own_grid(tmp_path):
    item, file_grid = oblique_item()
    keep = functools.partial(probs_files.write, epath.Path(tmp_path))
    volume_scores.score_split(make_system(), None, [item], "test", None, keep=keep)
    image = nibabel.load(tmp_path / "case_0.nii.gz")
    np.testing.assert_allclose(image.affine, file_grid.affine, atol=1e-5)
    infected = grid.from_canonical(item.mask & record.INFECTION > 0, file_grid)
    np.testing.assert_array_equal(image.get_fdata() > 127, infected)


def test_nothing_is_found_outside_the_lungs_unless_asked():
    item, _ = oblique_item()
    system = make_system()
    bone = np.full_like(item.image, 700)
    probs = volume_inference.predict_record(system, None, dataclasses.replace(item, image=bone))
    found = volume_inference.find_foreground(system, probs)
    np.testing.assert_array_equal(found, item.mask & record.LUNG > 0)
    everywhere = make_system(**{"inference.inside_lungs": False, "data.crop_to_lungs": False})
    found = volume_inference.find_foreground(everywhere, np.ones_like(probs))
    assert found.all()


@pytest.mark.parametrize("inside_lungs", [True, False])
def test_voxels_where_nothing_may_be_found_say_nothing_on_calibration(inside_lungs):
    item, _ = oblique_item()
    system = make_system(**{"inference.inside_lungs": inside_lungs, "data.crop_to_lungs": False})
    scored = volume_scores.score_split(system, None, [item], "test", None)
    num_lung = np.count_nonzero(item.mask & record.LUNG)
    assert scored.bin_counts.sum() == (num_lung if inside_lungs else item.mask.size)
    np.testing.assert_array_equal(scored.bin_counts[0, 1:14], 0)  # Sure, and always right.
    infected = np.count_nonzero(item.mask & record.INFECTION)
    np.testing.assert_array_equal(scored.bin_counts[0, 14], [0, infected])


def test_volumes_are_put_in_quartiles_by_their_ml():
    system = make_system()
    item, _ = oblique_item()
    sizes = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    items = [
        dataclasses.replace(item, affine=item.affine @ np.diag([size, 1, 1, 1])) for size in sizes
    ]
    scored = volume_scores.score_split(system, None, items[::-1], "test", None)
    by_size = scores_lib.summarise(system.task, scored)["by_size"]
    ml = np.count_nonzero(item.mask & record.INFECTION) * 2 / 1000  # Of voxels of 2 mm^3.
    assert by_size["unit"] == "mL"
    got = [part["range"] for part in by_size["quartiles"]]
    np.testing.assert_allclose(got, ml * np.reshape(sizes, (4, 2)))
    assert all(part["scores"]["dice"] == 1 for part in by_size["quartiles"])


def test_validation_is_the_dice_of_whole_volumes():
    source = volume_source.VolumeSource([(9, 21, 30), (6, 20, 20)])
    system = make_system()
    assert validate(system, source) == 1
    whole = [volumes.load(item, system.settings) for item in source]
    assert validation.score_volumes(system, None, whole, [None, None]) == 1
    system.__dict__["window_step"] = jax.jit(
        lambda state, batch: jnp.zeros(batch["images"].shape, jnp.float32)
    )
    assert validate(system, source) == 0


def test_validation_drops_what_the_test_split_drops():
    item = oblique_item()[0]
    step = jax.jit(lambda state, batch: jnp.ones(batch["images"].shape, jnp.float32))
    for crop, patch_size in ((True, (4, 16, 16)), (False, (12, 16, 16))):
        system = make_system(**{"data.crop_to_lungs": crop, "data.patch_size": patch_size})
        system.__dict__["window_step"] = step
        found = validate(system, [item])
        tested = volume_scores.score_split(system, None, [item], "test", None)
        np.testing.assert_allclose(found, system.task.image_scores(tested.confusions)["dice"][0])


def test_the_largest_parts_are_kept_after_what_is_outside_the_lungs_is_gone():
    item, _ = oblique_item()
    image = np.full_like(item.image, -900)
    image[:, :4] = 700  # Outside the lungs, and larger than all that is inside.
    image[4, 8:12, 8:12] = 700
    image[6, 8, 20] = 700
    item = dataclasses.replace(item, image=image)
    system = make_system(**{"inference.keep_largest": 1, "data.crop_to_lungs": False})
    found = volume_inference.find_foreground(
        system, volume_inference.predict_record(system, None, item)
    )
    assert found.sum() == 16
    assert found[4, 8:12, 8:12].all()
