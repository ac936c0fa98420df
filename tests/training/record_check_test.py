"""What is told of records before training, of sources made for it."""

import dataclasses

import numpy as np
import pytest

from jaxlung.data import record
from jaxlung.tasks import mask, three_level
from jaxlung.training import record_check
from tests import array_source

LUNGS = mask.make_task(target="lung", threshold=0.5, loss="bce", alpha=0.5)


class Damaged(array_source.ArraySource):
    """Its last image can't be decoded."""

    def __getitem__(self, index):
        if index == len(self) - 1:
            raise ValueError("x.png: can't be decoded.")
        return super().__getitem__(index)


class Grouped(array_source.ArraySource):
    """Two folders in turn, A and B, the latter's masks empty."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return dataclasses.replace(item, group="AB"[index % 2], mask=item.mask * (1 - index % 2))


class Empty(array_source.ArraySource):
    def __getitem__(self, index):
        item = super().__getitem__(index)
        return dataclasses.replace(item, mask=np.zeros_like(item.mask))


def check(splits, task=LUNGS, lacking=()):
    record_check.check(splits, task, 2, set(lacking).__contains__)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_bad_file_of_any_split_is_told_before_training(split):
    splits = {name: array_source.ArraySource(6) for name in ("train", "validation", "test")}
    check(splits, three_level.make_task())
    with pytest.raises(ValueError, match=r"x\.png"):
        check(splits | {split: Damaged(6)}, three_level.make_task())


def test_masks_without_any_foreground_are_an_error():
    splits = {"train": Empty(4), "validation": Empty(2), "test": Empty(2)}
    with pytest.raises(ValueError, match="none of the 4 training images has lung"):
        check(splits, lacking=("COVID-19", "Normal"))


def test_a_folder_without_foreground_is_named_unless_it_is_declared(caplog):
    splits = {"train": Grouped(5), "test": Grouped(2)}
    with pytest.raises(ValueError, match=r"none of the 3 images of B has lung; .*negative_roots"):
        check(splits)
    with caplog.at_level("INFO", logger="absl"):
        check(splits, lacking=("B",))
    assert "masks with foreground: A: train 3 of 3, test 1 of 1; B: train 0 of 2" in caplog.text


def test_one_mask_with_foreground_in_any_split_is_enough():
    class Late(Grouped):
        def __getitem__(self, index):
            return dataclasses.replace(
                super().__getitem__(index), mask=np.full((2, 2), record.LUNG)
            )

    check({"train": Grouped(4), "test": Late(2)})
