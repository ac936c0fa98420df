"""Which images and slices a report shows, and that they are read back as written."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from jaxlung.evaluation import panels
from jaxlung.report import volume_files
from tests import volume_source


def test_two_of_each_kind_in_order_of_score():
    ranks = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.8, 0.2, 0.6])
    assert panels.choose(ranks) == [
        ("best", 1),
        ("best", 5),
        ("median", 7),
        ("median", 2),
        ("worst", 6),
        ("worst", 0),
    ]


@pytest.mark.parametrize(("num_images", "want"), [(1, 1), (2, 2), (3, 3), (5, 3), (6, 6)])
def test_few_images_are_shown_once_each(num_images, want):
    chosen = [index for _, index in panels.choose(np.arange(num_images, dtype=float))]
    assert len(chosen) == len(set(chosen)) == want


SHAPE, SPACING = (9, 12, 14), (5.0, 0.5, 2.0)
CONFUSION = np.array([[90, 5], [5, 20]])


def make_item(mask):
    """A volume whose voxels tell where they are: 100 HU a slice, 10 a row, 1 a column."""
    (item,) = volume_source.VolumeSource([SHAPE], SPACING)
    slices, rows, columns = np.indices(SHAPE)
    hu = (100 * slices + 10 * rows + columns - 1000).astype(np.int16)
    return dataclasses.replace(item, image=hu, mask=mask)


def make_masks():
    """Annotation with most voxels in slice 6, row 3, column 10; prediction elsewhere."""
    levels, preds = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    levels[6, 1:6, 8:13] = levels[:, 3, 8:13] = levels[2:7, 1:6, 10] = True
    preds[1, :, 2] = preds[1:4, 7, 2] = True
    return levels, preds


def shown(values):
    return np.rint(255 * np.clip((values + 1250.0) / 1500, 0, 1))


def test_slices_have_the_most_annotated_voxels_and_the_head_on_top():
    levels, preds = make_masks()
    item = make_item(np.ones(SHAPE, np.uint8))
    got = panels.cut_planes(item, preds, levels, CONFUSION)
    assert [got[f"{plane}_index"] for plane in panels.PLANES] == [6, 3, 10]
    assert got["dice"] == pytest.approx(2 * 20 / (2 * 20 + 10))
    for array, name in ((shown(item.image), "image"), (levels, "target"), (preds, "pred")):
        np.testing.assert_array_equal(got[f"axial_{name}"], array[6])
        np.testing.assert_array_equal(got[f"coronal_{name}"], array[::-1, 3])
        np.testing.assert_array_equal(got[f"sagittal_{name}"], array[::-1, :, 10])


def test_pixels_have_the_aspect_of_their_voxels():
    levels, preds = make_masks()
    got = panels.cut_planes(make_item(np.ones(SHAPE, np.uint8)), preds, levels, CONFUSION)
    # Height over width: rows over columns, slices over columns, slices over rows.
    assert [got[f"{plane}_aspect"] for plane in panels.PLANES] == [0.25, 2.5, 10]


def test_without_annotation_prediction_counts_and_then_the_lung():
    _, preds = make_masks()
    nothing, lung = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.uint8)
    lung[5, 9, :4] = lung[5, 8:11, 1] = 1
    lung[7] = 2  # Infection outside the lungs is not lung.
    for found, want in ((preds, [1, 7, 2]), (nothing, [5, 9, 1])):
        got = panels.cut_planes(make_item(lung), found, nothing, CONFUSION)
        assert [got[f"{plane}_index"] for plane in panels.PLANES] == want
    got = panels.cut_planes(make_item(0 * lung), nothing, nothing, CONFUSION)
    assert [got[f"{plane}_index"] for plane in panels.PLANES] == [0, 0, 0]


def test_the_file_holds_what_the_report_reads(tmp_path):
    levels, preds = make_masks()
    item = make_item(np.ones(SHAPE, np.uint8))
    drawn = [panels.cut_planes(item, found, levels, CONFUSION) for found in (preds, levels)]
    panels.write_planes(epath.Path(tmp_path) / "planes_test.npz", drawn)
    subjects = volume_files.load_subjects(epath.Path(tmp_path))
    assert [subject.image_id for subject in subjects] == ["case_0", "case_0"]
    for subject, want in zip(subjects, drawn, strict=True):
        assert list(subject.planes) == list(panels.PLANES)
        for name, plane in subject.planes.items():
            for field, value in dataclasses.asdict(plane).items():
                np.testing.assert_array_equal(value, want[f"{name}_{field}"])
