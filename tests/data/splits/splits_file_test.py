"""Tests of the CSV of splits, with all kinds of image names."""

import os
import types

import pytest
from etils import epath

from jaxlung.data.splits import splits_file

PEOPLE = [
    ("=1+1", "@a"),
    ("a\rb", "-5"),
    ("a\nb", "'=x"),
    (os.fsdecode(b"m\xfc"), "p,q"),
    ("a", ""),
]


def make_splits(people):
    return {
        "train": types.SimpleNamespace(people=lambda: people[:2]),
        "test": types.SimpleNamespace(people=lambda: people[2:]),
    }


def test_any_names_are_the_same_when_read_back(tmp_path):
    path = epath.Path(tmp_path / "splits.csv")
    splits_file.write(path, make_splits(PEOPLE))
    splits_file.require_same(path, make_splits(PEOPLE))
    assert list(splits_file.read(path)) == [image_id for image_id, _ in PEOPLE]
    assert [*splits_file.read(path).values()] == ["train"] * 2 + ["test"] * 3
    assert len(path.read_text().splitlines()) == 1 + len(PEOPLE)
    with pytest.raises(ValueError, match=r"in 2 rows, such as '=1\+1, @a, train'"):
        splits_file.require_same(path, make_splits([("=1+2", "@a"), *PEOPLE[1:]]))


def test_a_file_of_before_names_were_escaped_is_still_the_same(tmp_path):
    path = epath.Path(tmp_path / "splits.csv")
    path.write_text('image_id,patient_id,split\n=1,"p,1",train\n-a,p2,train\n\'c,p3,test\n')
    splits_file.require_same(path, make_splits([("=1", "p,1"), ("-a", "p2"), ("'c", "p3")]))


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "image_id,patient_id,split\n1,2\n"])
def test_something_else_is_told_with_its_name(tmp_path, text):
    path = epath.Path(tmp_path / "splits.csv")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"splits.csv: want rows of image_id, patient_id, split"):
        splits_file.read(path)
