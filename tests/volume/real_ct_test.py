"""A real chest CT, as NIfTI and as DICOM, through the way of every prediction and back."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
from scipy import ndimage

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from jaxlung.volume import dicom, grid, hounsfield, nifti

HOME = pathlib.Path(__file__).parents[3] / "shared/realdata/ct_lung_pet_ct_dx"
AIR_HU = -500

pytestmark = pytest.mark.skipif(not HOME.exists(), reason="the real sample is not here")


@functools.cache
def sample(kind):
    """The CT in its file's own order, and its grid."""
    if kind == "dicom":
        return dicom.read_series(HOME / "dicom_A0001")
    return nifti.read(HOME / "Lung_Dx-A0001_256x256x64_HU.nii.gz", "nifti")


def stored_as(kind, axes, path):
    """The CT as a file whose axes grow to `axes`, written by nibabel and read by us."""
    array, where = sample(kind)
    transform = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(where.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.Nifti1Image(array, where.affine).as_reoriented(transform).to_filename(path)
    return nifti.read(path, path.name)


@functools.cache
def find_air_inside(kind):
    """Air that does not reach the sides of the volume: lungs, airways and bowel."""
    array, _ = sample(kind)
    components, _ = ndimage.label(array < AIR_HU)
    sides = [np.take(components, (0, -1), axis) for axis in (0, 1)]
    outside = np.unique(np.concatenate([side.ravel() for side in sides]))
    inside = (components > 0) & ~np.isin(components, outside)
    return inside.astype(np.uint8)


def make_system(**changes):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    config.data.update(patch_size=(16, 128, 128), eval_batch_size=4)
    config.inference.overlap = 0.25
    config.update_from_flattened_dict(changes)
    system = system_lib.make_system(config)
    # A network that knows air.
    step = jax.jit(lambda state, batch: (batch["images"] < AIR_HU).astype(jnp.float32))
    system.__dict__["window_step"] = step
    return system


def predict(system, array, where, lungs, path):
    """From a file's array to the file of its prediction."""
    hu, kind = hounsfield.to_hu(grid.to_canonical(array, where), "real")
    assert kind == "hu"
    item = record.VolumeRecord(
        image=hu,
        mask=grid.to_canonical(lungs, where) * np.uint8(record.LUNG),
        spacing_mm=grid.canonical_spacing_mm(where),
        shape=where.shape,
        affine=where.affine,
        image_id="real",
        patient_id="real",
        group="real",
    )
    probs = volume_inference.predict_record(system, None, item)
    found = volume_inference.find_foreground(system, probs)
    nifti.write(path, grid.from_canonical(found.astype(np.uint8), where), where)


def world_of(image):
    """[N, 3] mm, RAS, of the voxels that are set."""
    return nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_air_comes_back_on_the_files_own_voxels(tmp_path, kind):
    array, where = sample(kind)
    assert hounsfield.doubt(array) is None
    system = make_system(**{"inference.inside_lungs": False, "data.crop_to_lungs": False})
    path = tmp_path / "air.nii.gz"
    predict(system, array, where, np.zeros(array.shape, bool), path)
    got, got_grid = nifti.read(path, "air")
    grid.require_same(kind, where, "air", got_grid)
    np.testing.assert_array_equal(got, array < AIR_HU)


@pytest.mark.parametrize(("kind", "axes"), [("nifti", "RAS"), ("nifti", "PIR"), ("dicom", "SLA")])
def test_left_stays_left_however_the_file_is_stored(tmp_path, kind, axes):
    array, where = stored_as(kind, axes, tmp_path / "ct.nii.gz")
    assert grid.orientation(where) == axes
    # Found in the original file, and brought over by nibabel alone.
    original, original_grid = sample(kind)
    image = nibabel.Nifti1Image(find_air_inside(kind), original_grid.affine)
    stored = nibabel.Nifti1Image(array, where.affine)
    transform = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.io_orientation(stored.affine)
    )
    want = np.asarray(image.as_reoriented(transform).dataobj)

    predict(make_system(), array, where, want > 0, tmp_path / "lungs.nii.gz")
    got = nibabel.load(tmp_path / "lungs.nii.gz")
    np.testing.assert_allclose(got.affine, where.affine, atol=1e-4)
    np.testing.assert_array_equal(got.dataobj, want)
    points = world_of(got)
    np.testing.assert_allclose(points.mean(0), world_of(image).mean(0), atol=1e-3)
    # The heart takes its room from the left lung.
    middle = np.median(body_x(original, original_grid))
    num_left = np.count_nonzero(points[:, 0] < middle)
    assert 0.3 < num_left / len(points) < 0.45


def body_x(array, where):
    """Right of the patient in mm, of some of the body's voxels, in a file stored as LPS."""
    columns, _, _ = np.nonzero(array[:, ::4, ::4] > -300)
    return where.affine[0, 3] + where.affine[0, 0] * columns
