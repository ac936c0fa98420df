"""Contours of an RTSTRUCT, read by pydicom and filled again, give the masks back."""

import numpy as np
import pydicom
import pytest
from matplotlib import path as mpl_path
from scipy import ndimage

from jaxlung.predict import ct, rtstruct
from tests.volume import dicom_series as made

ROWS, COLUMNS, SLICES = 40, 50, 4


def blobs(seed):
    """[SLICES, ROWS, COLUMNS] bool with holes, pieces and pixels at the border."""
    noise = np.random.default_rng(seed).standard_normal((SLICES, ROWS, COLUMNS))
    mask = ndimage.gaussian_filter(noise, (0, 2, 2)) > 0
    mask[1, 5:30, 5:40], mask[1, 10:20, 10:15], mask[1, 12:18, 20:30] = True, False, False
    mask[1, 14:16, 23:27] = True  # An island in the second hole.
    mask[2] = False
    return mask


def save_series(folder, orientation, hu, **tags):
    axes = made.ORIENTATIONS[orientation]
    step = made.STEP_MM * np.cross(*axes)
    datasets = [made.make_slice(k, axes, step) for k in range(SLICES)]
    for k, dataset in enumerate(datasets):
        made.set_pixels(dataset, hu[k])
        dataset.ImagePositionPatient = made.decimal(made.CORNER + k * step)
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2", "1.2.9"
        for name, value in tags.items():
            setattr(dataset, name, value)
    return made.save(folder, datasets)


def fill(dataset, number, orientation):
    """Pixels whose centres lie within an odd number of a slice's contours."""
    axes = np.array(made.ORIENTATIONS[orientation], float)
    filled = np.zeros((SLICES, ROWS, COLUMNS), bool)
    centres = np.indices((COLUMNS, ROWS)).reshape(2, -1).T
    for contour in dataset.ROIContourSequence[number].get("ContourSequence", []):
        k = int(contour.ContourImageSequence[0].ReferencedSOPInstanceUID.rsplit(".", 1)[1]) - 1
        world = np.reshape(contour.ContourData, (-1, 3)).astype(float)
        assert len(world) == contour.NumberOfContourPoints > 2
        away = world - made.CORNER - k * made.STEP_MM * np.cross(*axes)
        assert np.abs(away @ np.cross(*axes)).max() < 1e-3  # In the plane of its slice.
        points = away @ axes.T / (made.BETWEEN_COLUMNS_MM, made.BETWEEN_ROWS_MM)
        inside = mpl_path.Path(points).contains_points(centres)
        filled[k] ^= inside.reshape(COLUMNS, ROWS).T
    return filled


@pytest.mark.parametrize("orientation", ["axial", "prone", "coronal", "oblique"])
def test_filled_contours_are_the_masks(tmp_path, orientation):
    lung, infection = blobs(0), blobs(1)
    hu = (np.where(lung, -800, 0) + 100 * infection).astype(np.int16)
    folder = save_series(tmp_path / "ct", orientation, hu, PatientID="4711")
    item = ct.read(folder, 10**6)
    is_low = item.image < -600
    masks = {"lung": is_low, "infection": (item.image == -700) | (item.image == 100)}
    rtstruct.write(tmp_path / "a.dcm", masks, item, folder)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert (dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID) == (
        *("RTSTRUCT", "4711", "1.2"),
    )
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["lung", "infection"]
    for number, want in enumerate((lung, infection)):
        got = fill(dataset, number, orientation)
        dice = 2 * np.count_nonzero(got & want) / (got.sum() + want.sum())
        assert dice > 0.98
        np.testing.assert_array_equal(got, want)


def test_a_ring_is_one_contour_of_its_own_area(tmp_path):
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8], ring[3:6, 3:6] = True, False
    (points,) = rtstruct._polygons(ring)
    x, y = points.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    # Outlines at half a pixel cut the corners: 7 * 7 - 4 / 8 outside, 3 * 3 - 4 / 8 inside.
    assert area == pytest.approx(49 - 0.5 - (9 - 0.5))


def test_nothing_found_is_an_empty_roi(tmp_path):
    folder = save_series(
        tmp_path / "ct", "axial", np.resize(np.int16([-900, 0]), (4, ROWS, COLUMNS))
    )
    item = ct.read(folder, 10**6)
    rtstruct.write(tmp_path / "a.dcm", {"lung": item.mask > 0}, item, folder)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert len(dataset.StructureSetROISequence) == 1
    assert not fill(dataset, 0, "axial").any()


def test_a_series_without_its_frame_of_reference_is_named(tmp_path):
    hu = np.resize(np.int16([-900, 0]), (4, ROWS, COLUMNS))
    folder = save_series(tmp_path / "ct", "axial", hu, FrameOfReferenceUID="")
    item = ct.read(folder, 10**6)
    with pytest.raises(ValueError, match=f"{folder}: no RTSTRUCT .*no FrameOfReferenceUID"):
        rtstruct.write(tmp_path / "a.dcm", {"lung": item.mask > 0}, item, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]
