"""The X-rays under CC BY: chosen by licence, and read back as the user's own images."""

import csv
import sys

import pytest

from jaxlung.config import config_file
from jaxlung.training import system
from tfds_builders.phantoms import v7_covid_cxr
from tfds_builders.v7_covid_cxr import cc_by

LICENCES = ("CC BY", "CC BY-NC-SA", "CC BY 3.0", "", "CC BY-SA", "CC BY-ND 4.0")


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """Returns a generated download of 34 X-rays of children and 6 of adults, with the table."""
    folder = tmp_path_factory.mktemp("v7")
    v7_covid_cxr.write(folder / "raw", 40, image_size=32)
    with (folder / "metadata.csv").open("w") as file:
        file.write("Patientid, filename, url,license\n")
        for i, licence in enumerate(LICENCES):
            file.write(f"{i},covid-19-pneumonia-{i}.jpg,https://example.org/{i},{licence}\n")
    return folder


@pytest.mark.parametrize(
    ("licence", "is_free"),
    [
        *(("CC BY", True), ("CC BY 4.0", True), (" cc-by-3.0 ", True), ("CC BY-NC", False)),
        *(("CC BY-SA 4.0", False), ("CC BY-ND", False), ("", False), ("CC BY 4.0 NC", False)),
    ],
)
def test_only_attribution_is_asked_for(licence, is_free):
    assert cc_by.is_cc_by(licence) is is_free


@pytest.fixture(scope="module")
def listed(download):
    path = cc_by.write(download / "raw", download / "metadata.csv", download / "out")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_images_of_other_licences_are_left_out(download, listed):
    adults = [row for row in listed if row["image"].startswith("adults/")]
    stems = [row["name"].rsplit(".", 1)[0] for row in adults]
    assert stems == ["covid-19-pneumonia-0", "covid-19-pneumonia-2"]
    assert [row["licence"] for row in adults] == ["CC BY", "CC BY 3.0"]
    assert [row["source"] for row in adults] == ["https://example.org/0", "https://example.org/2"]
    children = [row for row in listed if row["image"].startswith("children/")]
    assert len(children) == 40 - v7_covid_cxr.num_covid(40) == len(listed) - 2
    assert {row["licence"] for row in children} == {"CC BY 4.0"}
    found = sorted(path.name for path in (download / "out").glob("*/images/*.png"))
    assert found == sorted(f"{row['v7_number']}.png" for row in listed)


def test_the_config_reads_what_was_written_by_patient_and_group(download, listed):
    out = download / "out"
    config = config_file.load(config_file.resolve("lungs:quick,fold=0,folds=2"))
    config.data.update(csv=f"{out}/list.csv", root=f"{out}/adults,{out}/children")
    splits = system.open_splits(config)
    groups = {record.group for split in splits.values() for record in split}
    patients = [{patient for _, patient in split.people()} for split in splits.values()]
    assert groups == {"adults", "children"}
    assert sum(map(len, splits.values())) == len(listed)
    assert not set.intersection(*patients)
    assert set.union(*patients) == {row["patient"] for row in listed}


def test_a_list_of_images_chooses_them(download, listed, tmp_path):
    (tmp_path / "only.csv").write_text(f"v7_number\n{listed[3]['v7_number']}\n1\n")
    args = (download / "raw", download / "metadata.csv", tmp_path / "out", tmp_path / "only.csv")
    with cc_by.write(*args).open() as file:
        assert list(csv.DictReader(file)) == [listed[3]]


def test_bad_input_is_told_in_a_sentence(download, listed, tmp_path, monkeypatch, capsys):
    del listed
    raw, table = str(download / "raw"), tmp_path / "table.csv"
    table.write_text("filename,licence\n")
    for arguments, sentence in (
        ([raw, str(table), str(tmp_path / "out")], "table.csv: want a column 'license', got filen"),
        ([raw, str(tmp_path / "no"), str(tmp_path / "out")], "no: can't be read as CSV"),
        ([raw, str(table), str(download / "out")], "out exists; want a folder to make."),
    ):
        monkeypatch.setattr(sys, "argv", ["cc_by", *arguments])
        with pytest.raises(SystemExit, match="1"):
            cc_by.main()
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
