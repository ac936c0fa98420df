"""NOTICE and the model card of `lungs` agree with the list of X-rays that the network trains on."""

import collections
import csv
import pathlib
import re

from tfds_builders.v7_covid_cxr import cc_by

ROOT = pathlib.Path(__file__).parent.parent
CARD = (ROOT / "docs" / "lungs.md").read_text()
NOTICE = " ".join((ROOT / "NOTICE").read_text().split())


def read_list():
    with (ROOT / "docs" / "lungs_images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_images_are_under_cc_by_and_each_is_listed_once():
    rows = read_list()
    assert all(cc_by.is_cc_by(row["licence"]) for row in rows)
    assert (
        len({row["v7_number"] for row in rows}) == len({row["name"] for row in rows}) == len(rows)
    )


def test_the_card_counts_images_and_patients_as_the_list_does():
    rows = read_list()
    images = collections.Counter(row["group"] for row in rows)
    patients = collections.Counter(dict({row["patient"]: row["group"] for row in rows}).values())
    for name, counts in (("X-rays", images), ("patients", patients)):
        assert f"| {name} | {counts['adults']} | {counts['children']} |" in CARD
    assert f"{len(rows)} frontal X-rays" in CARD


def test_every_source_and_licence_is_named_in_the_notice():
    for row in read_list():
        source = re.sub(r".*/datasets/(rscbjbr9sj)/2$", r"10.17632/\1.2", row["source"])
        assert source in NOTICE
        assert row["licence"].replace("CC BY", "Creative Commons Attribution") in NOTICE
    for name in ("V7 Labs", "surface-distance", "Copyright 2018 Google"):
        assert name in NOTICE


def test_the_card_says_what_the_network_is_not_for_and_was_not_shown():
    for words in ("No medical device", "Lateral", "CT slices", "supine", "Foreign bodies", "heart"):
        assert words in CARD
