"""Tests of prepared datasets: phantoms, downloads and missing data."""

import pathlib
import sys
import types

import numpy as np
import pytest

from jaxlung.data import record
from jaxlung.data.sources import datasets
from tfds_builders.phantoms import covid_qu_ex as phantom

FIELDS = dict(
    name="covid_qu_ex/infection", data_dir="", raw_dir="", download=False, phantom_images=0
)
BOTH = record.LUNG | record.INFECTION


def open_splits(data_dir, needs=BOTH, **changes):
    fields = FIELDS | {"data_dir": str(data_dir)} | changes
    return datasets.open_splits(fields, needs=needs, seed=0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return phantom.write(tmp_path_factory.mktemp("raw") / "tree", 20, image_size=16)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, raw):
    folder = tmp_path_factory.mktemp("data")
    open_splits(folder, raw_dir=str(raw))
    return folder


def test_records_have_the_files_pixels_and_bits(raw, data_dir):
    from PIL import Image

    source = open_splits(data_dir)["train"]
    item = next(source[i] for i in range(len(source)) if source[i].group == "COVID-19")
    root = raw / "Infection Segmentation Data" / "Infection Segmentation Data"
    split, label, stem = item.image_id.split("/")

    def load(kind):
        file = root / split / label / kind / f"{stem}.png"
        return np.asarray(Image.open(file).convert("L"))

    np.testing.assert_array_equal(item.image, load("images"))
    np.testing.assert_array_equal((item.mask & record.LUNG) > 0, load("lung masks") > 127)
    infected = (item.mask & record.INFECTION) > 0
    np.testing.assert_array_equal(infected, load("infection masks") > 127)


def test_people_are_those_of_the_records_and_in_one_split_only(data_dir):
    splits = open_splits(data_dir)
    for source in splits.values():
        assert source.people() == [
            (source[i].image_id, source[i].patient_id) for i in range(len(source))
        ]
    everyone = [person for source in splits.values() for _, person in source.people()]
    assert len(everyone) == len(set(everyone)) == sum(map(len, splits.values()))


def test_who_and_which_group_is_read_once(data_dir, monkeypatch):
    source, reads = open_splits(data_dir)["train"], []
    who = source._who
    monkeypatch.setattr(source, "_who", lambda example: reads.append(1) or who(example))
    assert source.people() == source.people()
    assert source.groups() == [source[i].group for i in range(len(source))]
    assert len(reads) == 2 * len(source)  # Once for all, and once with each record.
    source.people().clear()
    assert len(source.people()) == len(source)


def test_prepared_data_need_no_download_any_more(data_dir, raw):
    assert len(open_splits(data_dir)["test"]) == len(
        open_splits(data_dir, raw_dir=str(raw))["test"]
    )


def test_another_download_than_the_prepared_one_is_an_error(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r"was prepared from .*tree, not from .*other.zip; remove"):
        open_splits(data_dir, raw_dir=str(tmp_path / "other.zip"))


def test_without_data_one_message_says_where_to_get_and_put_them(tmp_path):
    message = r"https://www.kaggle.com/.*put the zip, .*downloads/manual.*config.data.raw_dir"
    with pytest.raises(FileNotFoundError, match=message):
        open_splits(tmp_path)


def test_a_download_goes_through_kagglehub(tmp_path, raw, monkeypatch):
    asked = []
    module = types.ModuleType("kagglehub")
    module.dataset_download = lambda handle: asked.append(handle) or str(raw)
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    assert len(open_splits(tmp_path, download=True)["train"]) > 0
    assert asked == ["anasmohammedtahir/covidqu/versions/7"]


def test_phantoms_are_generated_once(tmp_path):
    splits = open_splits(tmp_path, phantom_images=20)
    assert {name: len(source) > 0 for name, source in splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), True
    )
    (tree,) = pathlib.Path(tmp_path).glob("phantom_*/raw")
    before = tree.stat().st_mtime_ns
    open_splits(tmp_path, phantom_images=20)
    assert tree.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "covid"}, "data.name: got 'covid', want one of covid19_ct_seg, .*folder"),
        ({"name": "covid_qu_ex/x"}, "want one of covid_qu_ex/infection, covid_qu_ex/lung"),
        ({"download": True, "phantom_images": 20}, "data.download: got raw_dir or phantom_images"),
        ({"name": "folder/x"}, "folder' has one binary mask"),
    ],
)
def test_names_that_can_not_be_are_errors(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        open_splits(tmp_path, **changes)


def test_a_task_that_needs_infections_refuses_data_without(tmp_path, raw):
    """A tree whose folders name no part serves both variants of the dataset."""
    plain = tmp_path / "plain"
    plain.mkdir()
    inner = raw / "Infection Segmentation Data" / "Infection Segmentation Data"
    for split in inner.iterdir():
        (plain / split.name).symlink_to(split)
    fields = dict(name="covid_qu_ex/lung", raw_dir=str(plain))
    splits = open_splits(tmp_path / "data", needs=record.LUNG, **fields)
    assert not (splits["train"][0].mask & record.INFECTION).any()
    with pytest.raises(ValueError, match="has no infection masks"):
        open_splits(tmp_path / "data", needs=BOTH, **fields)
