"""Tests of datasets that are split here: no patient in two splits, each group in its share."""

import collections
import hashlib

import numpy as np
import pytest
from PIL import Image

from jaxlung.data import record
from jaxlung.data.sources import datasets
from jaxlung.data.splits import splits_file

PREPARED = dict(raw_dir="", download=False)
FRACTIONS = dict(validation_fraction=0.1, test_fraction=0.2)


def open_v7(data_dir, protocol, seed=0, needs=record.LUNG, **changes):
    fields = dict(
        name="v7_covid_cxr/256",
        data_dir=str(data_dir),
        phantom_images=40,
        protocol=protocol,
        held_out_fraction=0.4,
        max_train_per_class=0,
        fold=0,
        folds=0,
    )
    return datasets.open_splits(PREPARED | fields | changes, needs=needs, seed=seed)


def open_cxr_lungs(data_dir, seed=0, **changes):
    fields = dict(
        name="cxr_lungs/512",
        data_dir=str(data_dir),
        raw_dir_montgomery="",
        raw_dir_shenzhen="",
        download=False,
        phantom_images=16,
        fold=0,
        folds=0,
    )
    return datasets.open_splits(fields | FRACTIONS | changes, needs=record.LUNG, seed=seed)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def patients(source):
    return {patient for _, patient in source.people()}


def ids(source):
    return {image_id for image_id, _ in source.people()}


def groups_of(source):
    """Patients of each group; those with several kinds of image are in several."""
    found = collections.defaultdict(set)
    for i in range(len(source)):
        found[source[i].group].add(source[i].patient_id)
    return found


def assert_apart(*sources):
    everyone = [patients(source) for source in sources]
    assert len(set().union(*everyone)) == sum(map(len, everyone))


def test_v7_in_halves_keeps_patients_apart_and_shares_out_covid(data_dir):
    splits = open_v7(data_dir, "halves")
    assert_apart(*splits.values())
    covid = {name: len(groups_of(source)["COVID-19"]) for name, source in splits.items()}
    assert covid["validation"] == covid["test"] == round(0.2 * sum(covid.values()))
    every = [source[i] for source in splits.values() for i in range(len(source))]
    assert {item.label for item in every if item.group == "COVID-19"} == {1}
    assert {item.label for item in every if item.group != "COVID-19"} == {0}
    assert len({item.image_id for item in every}) == len(every)
    assert all((item.mask & record.LUNG).any() for item in every)


def test_v7_as_the_paper_tests_on_all_held_out_and_validates_on_those_with_covid(data_dir):
    """The held-out patients are the same either way; so are those trained on."""
    paper, halves = open_v7(data_dir, "paper"), open_v7(data_dir, "halves")
    assert ids(paper["train"]) == ids(halves["train"])
    assert ids(paper["test"]) == ids(halves["validation"]) | ids(halves["test"])
    assert_apart(paper["train"], paper["test"])
    test = paper["test"]
    covid = {test[i].image_id for i in range(len(test)) if test[i].label}
    assert ids(paper["validation"]) == covid
    assert 0 < len(covid) < len(test)


def test_v7_as_the_papers_diagnosis_validates_and_tests_on_all_held_out(data_dir):
    both, paper = open_v7(data_dir, "paper_both"), open_v7(data_dir, "paper")
    assert ids(both["train"]) == ids(paper["train"])
    assert ids(both["validation"]) == ids(both["test"]) == ids(paper["test"])
    assert len(groups_of(both["validation"])) == 2


@pytest.mark.parametrize("protocol", ["paper", "halves"])
def test_v7_trains_on_no_more_of_a_class_than_wanted(data_dir, protocol):
    few, every = (open_v7(data_dir, protocol, max_train_per_class=n) for n in (6, 0))
    counts = [
        collections.Counter(source[i].label for i in range(len(source)))
        for source in (few["train"], every["train"])
    ]
    assert counts[0] == {label: min(count, 6) for label, count in counts[1].items()}
    assert max(counts[1].values()) > 6
    assert ids(few["train"]) < ids(every["train"])
    for split in ("validation", "test"):
        assert few[split].people() == every[split].people()
    other = open_v7(data_dir, protocol, max_train_per_class=6, seed=1)
    assert ids(few["train"]) != ids(other["train"])


def test_v7_classes_of_every_split_are_logged(data_dir, caplog):
    open_v7(data_dir, "paper")  # Preparing the data would change the level.
    with caplog.at_level("INFO", logger="absl"):
        validation = open_v7(data_dir, "paper")["validation"]
    assert f"validation: {len(validation)} COVID-19" in caplog.text


@pytest.fixture
def png_masks(tmp_path):
    """V7's X-rays with PNG masks alone, as its semantic export."""
    raw, np_rng = tmp_path / "raw", np.random.default_rng(0)
    for folder in ("images", "all-images-semantic-masks"):
        (raw / folder).mkdir(parents=True)
    for i in range(10):
        pixels = np_rng.integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(raw / "images" / f"{i}.png")
        lungs = np.where(pixels > 99, 255, 0).astype(np.uint8)
        Image.fromarray(lungs).save(raw / "all-images-semantic-masks" / f"{i}.png")
    return raw


def test_v7_masks_without_diagnoses_are_split_by_image_and_not_as_the_paper(
    png_masks, tmp_path, caplog
):
    fields = dict(raw_dir=str(png_masks), phantom_images=0)
    message = r"got 'paper', .* these annotations have no diagnoses .*data\.protocol=halves"
    with pytest.raises(ValueError, match=message):
        open_v7(tmp_path / "data", "paper", **fields)
    assert "patients are unknown unless file names tell them: splits are by image" in caplog.text
    halves = open_v7(tmp_path / "data", "halves", **fields)
    assert [len(halves[name]) for name in ("train", "validation", "test")] == [6, 2, 2]


def test_another_seed_is_another_split(data_dir):
    assert ids(open_v7(data_dir, "halves")["train"]) != ids(
        open_v7(data_dir, "halves", seed=1)["train"]
    )


def test_cxr_lungs_are_both_datasets_each_in_its_share(data_dir):
    splits = open_cxr_lungs(data_dir)
    assert_apart(*splits.values())
    origins = {
        name: collections.Counter(patient[:3] for patient in patients(source))
        for name, source in splits.items()
    }
    totals = sum(origins.values(), collections.Counter())
    assert len(totals) == 2  # MCU and CHN.
    for origin, total in totals.items():
        sizes = [origins[name][origin] for name in ("validation", "test")]
        assert sizes == [max(1, round(0.1 * total)), round(0.2 * total)]
    item = splits["train"][0]
    assert item.image.shape == item.mask.shape
    np.testing.assert_array_equal(np.unique(item.mask), [0, record.LUNG])
    every = [image_id for source in splits.values() for image_id, _ in source.people()]
    assert len(every) == len(set(every))


def open_folds(open_dataset, folds):
    """Opens all folds; checks that every image is tested once and no patient is in two splits."""
    every = [open_dataset(fold) for fold in range(folds)]
    people = {split: [pair for s in every for pair in s[split].people()] for split in every[0]}
    whole = {pair for source in every[0].values() for pair in source.people()}
    assert len(people["test"]) == len(whole)
    assert set(people["test"]) == whole
    for splits in every:
        assert_apart(*splits.values())
        assert {pair for source in splits.values() for pair in source.people()} == whole
    return every


def test_folds_of_v7_test_every_image_once_with_a_share_of_covid(data_dir):
    every = open_folds(lambda fold: open_v7(data_dir, "halves", fold=fold, folds=5), 5)
    covid = [{s: len(groups_of(x)["COVID-19"]) for s, x in splits.items()} for splits in every]
    tested = [counts["test"] for counts in covid]
    assert max(tested) - min(tested) <= 1
    # `held_out_fraction` / 2 of the class, as in halves of a single split.
    assert {counts["validation"] for counts in covid} == {round(0.2 * sum(tested))}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_of_cxr_lungs_test_every_image_once_with_a_share_of_both(data_dir, folds):
    every = open_folds(lambda fold: open_cxr_lungs(data_dir, fold=fold, folds=folds), folds)
    for origin in ("MCU", "CHN"):
        tested = [sum(who[:3] == origin for who in patients(x["test"])) for x in every]
        assert max(tested) - min(tested) <= 1
        assert min(tested) > 0


def test_a_class_of_v7_is_thinned_in_the_training_split_of_a_fold_alone(data_dir):
    few, every = (
        open_v7(data_dir, "halves", fold=1, folds=3, max_train_per_class=n) for n in (6, 0)
    )
    assert ids(few["train"]) < ids(every["train"])
    assert few["test"].people() == every["test"].people()


@pytest.mark.parametrize("protocol", ["paper", "paper_both"])
def test_a_papers_protocol_has_no_folds(protocol, tmp_path):
    message = rf"data\.folds: got 5 with data\.protocol='{protocol}', .*protocol=halves"
    with pytest.raises(ValueError, match=message):
        open_v7(tmp_path, protocol, folds=5)
    assert not list(tmp_path.iterdir())


def test_a_fold_that_can_not_be_is_told_before_data_are_prepared(tmp_path):
    for open_dataset in (open_cxr_lungs, lambda *args, **fold: open_v7(*args, "paper", **fold)):
        with pytest.raises(ValueError, match=r"data\.fold: got 3 of 3 folds"):
            open_dataset(tmp_path, fold=3, folds=3)
        with pytest.raises(ValueError, match=r"data\.fold: got 1 of 0 folds"):
            open_dataset(tmp_path, fold=1)
    assert not list(tmp_path.iterdir())


def test_single_splits_are_those_of_earlier_versions(data_dir):
    """Without folds, a run's `splits.csv` is as it was before there were any."""

    def digest(splits):
        rows = [(*people, name) for name, source in splits.items() for people in source.people()]
        rows.append(splits_file.COLUMNS)
        return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:8]

    assert digest(open_cxr_lungs(data_dir)) == "138bfd74"
    assert digest(open_cxr_lungs(data_dir, seed=1)) == "d2237097"
    assert digest(open_v7(data_dir, "paper")) == "24804319"
    assert digest(open_v7(data_dir, "paper_both")) == "dfaeb093"
    assert digest(open_v7(data_dir, "halves")) == "43a7ee86"


def test_covid_only_leaves_out_everyone_else(data_dir):
    fields = PREPARED | dict(data_dir=str(data_dir), phantom_images=20)
    needs = record.LUNG | record.INFECTION

    def open_as(name):
        return datasets.open_splits(fields | {"name": name}, needs=needs, seed=0)

    whole = open_as("covid_qu_ex/infection")
    for split, part in open_as("covid_qu_ex_covid_only/infection").items():
        source = whole[split]
        items = [source[i] for i in range(len(source))]
        want = [item.image_id for item in items if item.group == "COVID-19"]
        assert [image_id for image_id, _ in part.people()] == want
        assert 0 < len(want) < len(source)


def test_what_can_not_be_is_an_error(data_dir):
    with pytest.raises(
        ValueError, match=r"data\.max_train_per_class: got -1, want 1 or more, or 0"
    ):
        open_v7(data_dir, "halves", max_train_per_class=-1)
    with pytest.raises(
        ValueError, match=r"data.protocol: got 'thirds', want one of paper, paper_both"
    ):
        open_v7(data_dir, "thirds")
    with pytest.raises(ValueError, match=r"has no infection masks"):
        open_v7(data_dir, "paper", needs=record.INFECTION)
    with pytest.raises(ValueError, match=r"got v7_covid_cxr/128, want one of v7_covid_cxr/256, "):
        open_v7(data_dir, "paper", name="v7_covid_cxr/128")
    with pytest.raises(ValueError, match=r"patients of .* together below 1, got 0.5 and 0.5"):
        open_cxr_lungs(data_dir, validation_fraction=0.5, test_fraction=0.5)
