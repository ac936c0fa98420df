"""The input of a benchmark: prepared data, or noise."""

import pathlib

import numpy as np
import pytest

from benchmarks import cases
from jaxlung.benchmark import data
from jaxlung.config import config_file
from jaxlung.data.feed import order, patches, pipeline
from jaxlung.data.sources import datasets
from jaxlung.training import system as system_lib


def test_generated_volumes_give_patches_with_foreground():
    config = cases.load("covid19_ct:quick", {"data.spacing_mm": (2.0, 0.0, 1.5)})
    system = system_lib.make_system(config)
    source, what = data.open_source(config, system.settings)
    assert what == "2 generated volumes in memory, nothing to decode"
    assert len(source) == len(source.people()) == 2
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    batch = next(feed.batches(order.shuffled(0, feed.num_examples), 4, 1))
    assert batch["images"].shape == (4, *config.data.patch_size)
    assert batch["images"].dtype == np.int16
    assert bool((batch["masks"] & 2).any(axis=(1, 2, 3)).any())
    ready = patches.load_all(source, system.settings, "train")
    assert [volume.image.shape for volume in ready] == [(64, 256, 256)] * 2  # Nothing was cut off.


def test_prepared_data_are_found_where_training_prepares_them(tmp_path):
    config = cases.load(
        "covidqu:quick", {"data.data_dir": str(tmp_path), "data.phantom_images": 20}
    )
    settings = system_lib.make_system(config).settings
    before, _ = data.open_source(config, settings)
    assert isinstance(before, data.InMemory)
    assert not list(tmp_path.iterdir())
    system_lib.open_splits(config)
    config.data.download = True  # Would be refused, or begin to download.
    source, what = data.open_source(config, settings)
    assert what == "covid_qu_ex/infection, training split"
    assert len(source) < 20


@pytest.mark.parametrize(
    ("spec", "phantoms", "files", "want"),
    [
        ("covidqu", 0, ["covid_qu_ex/infection/1.0.0"], True),
        ("covidqu", 0, ["covid_qu_ex/lung/1.0.0"], False),
        ("covidqu", 40, ["covid_qu_ex/infection/1.0.0"], False),
        ("covidqu", 40, ["phantom_covid_qu_ex_v1_40/covid_qu_ex/infection/1.0.0"], True),
        ("covidqu", 40, ["phantom_covid_qu_ex_v1_400/covid_qu_ex/infection/1.0.0"], False),
        ("covidqu_residual", 0, ["covid_qu_ex/infection/1.0.0"], True),
        ("cxr_lungs", 0, ["montgomery_cxr/512/1.0.0"], False),
        ("cxr_lungs", 0, ["montgomery_cxr/512/1.0.0", "shenzhen_cxr/512/1.0.0"], True),
    ],
)
def test_only_data_that_are_prepared_are_opened(spec, phantoms, files, want, tmp_path):
    for folder in files:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dataset_info.json").touch()
    config = cases.load(spec, {"data.data_dir": str(tmp_path), "data.phantom_images": phantoms})
    assert datasets.is_prepared(config.data) == want


def test_a_folder_of_ones_own_is_opened_if_it_is_named():
    config = config_file.load(config_file.resolve("folder"))
    assert not datasets.is_prepared(config.data)
    config.data.root = str(pathlib.Path("anywhere"))
    assert datasets.is_prepared(config.data)
