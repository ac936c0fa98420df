"""Tests of records of prepared CTs: bits, geometry, and names without unpacking volumes."""

from unittest import mock

import nibabel
import numpy as np
import pytest
from tensorflow_datasets.core.features import tensor_feature

from jaxlung.data import record
from jaxlung.data.sources import covid19_ct_seg, prepared
from tfds_builders.phantoms import covid19_ct_seg as phantom


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def builder(data_dir):
    return covid19_ct_seg.PART.open(
        "native",
        needs=record.LUNG | record.INFECTION,
        data_dir=str(data_dir),
        raw_dir="",
        download=False,
        phantom_images=3,
        may_prepare=True,
    )


@pytest.fixture
def volumes(builder):
    return prepared.PreparedVolumes(builder, "full")


def test_records_hold_what_was_drawn(volumes):
    assert len(volumes) == 3
    for index, case_id in enumerate(phantom.case_ids(3)):
        item = volumes[index]
        scan, spacing_mm = phantom.make_case(case_id, seed=0)
        assert item.image_id == case_id
        assert (item.image.dtype, item.mask.dtype) == (np.int16, np.uint8)
        np.testing.assert_array_equal((item.mask & record.LUNG) > 0, scan.lung_mask > 0)
        np.testing.assert_array_equal((item.mask & record.INFECTION) > 0, scan.infection_mask > 0)
        assert set(np.unique(item.mask)) == {0, record.LUNG, record.LUNG | record.INFECTION}
        np.testing.assert_allclose(item.spacing_mm, spacing_mm, rtol=1e-6)
        assert item.group == case_id.split("_")[0]
        assert item.label == 1
    np.testing.assert_array_equal(
        volumes[0].image, phantom.make_case("coronacases_001", seed=0)[0].image
    )


def test_grid_is_that_of_the_file(volumes, data_dir):
    (raw,) = data_dir.glob("phantom_*/raw")
    for index, case_id in enumerate(phantom.case_ids(3)):
        item, image = volumes[index], nibabel.load(raw / phantom.ct_name(case_id, "zenodo"))
        assert item.shape == image.shape
        np.testing.assert_array_equal(item.affine, image.affine)
        assert item.affine.dtype == np.float64


def test_people_and_groups_are_those_of_the_records(volumes):
    items = [volumes[i] for i in range(len(volumes))]
    assert volumes.people() == [(item.image_id, item.patient_id) for item in items]
    assert volumes.groups() == [item.group for item in items]


def test_names_are_read_without_unpacking_volumes(volumes):
    unpack = mock.Mock(side_effect=AssertionError("unpacked"))
    with mock.patch.object(tensor_feature.zlib, "decompress", unpack):
        assert volumes.groups() == ["coronacases", "coronacases", "radiopaedia"]
        assert [image_id for image_id, _ in volumes.people()] == phantom.case_ids(3)
        with pytest.raises(AssertionError, match="unpacked"):
            volumes[0]


def test_who_and_which_group_is_read_once():
    examples = mock.MagicMock()
    examples.__len__.return_value = 1
    examples.__getitem__.return_value = dict(image_id=b"a", patient_id=b"p", label=1)
    builder = mock.MagicMock(data_path="unused")
    builder.as_data_source.return_value = examples
    builder.info.features = {"label": mock.Mock(names=["coronacases", "radiopaedia"])}
    source = prepared.PreparedVolumes(builder, "full")
    for _ in range(2):
        people, groups = source.people(), source.groups()
        assert (people, groups) == ([("a", "p")], ["radiopaedia"])
        people.clear()
        groups.clear()
    assert examples.__getitem__.call_count == 1


def test_infection_outside_the_lungs_is_infection():
    example = dict(
        ct=np.zeros((1, 1, 3), np.int16),
        lung_mask=np.array([[[0, 2, 1]]], np.uint8),
        infection_mask=np.array([[[1, 1, 0]]], np.uint8),
        spacing_mm=np.ones(3, np.float32),
        shape=np.array([3, 1, 1], np.int32),
        affine=np.eye(4),
        image_id=b"a",
        patient_id=b"a",
        label=0,
    )
    builder = mock.MagicMock(data_path="unused")
    builder.as_data_source.return_value = [example]
    builder.info.features = {"label": mock.Mock(names=["coronacases", "radiopaedia"])}
    item = prepared.PreparedVolumes(builder, "full")[0]
    both = record.LUNG | record.INFECTION
    np.testing.assert_array_equal(item.mask, [[[record.INFECTION, both, record.LUNG]]])
