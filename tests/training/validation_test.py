"""Validation: the numbers of every image on its own, and no pixels leave the device."""

import math

import jax
import numpy as np
import pytest

from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.training import system as system_lib
from jaxlung.training import validation
from tests import array_source


def make_system(**changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.update_from_flattened_dict(changes)
    return system_lib.make_system(config)


class Part:
    """Some records of a source."""

    def __init__(self, source, indices):
        self._source, self._indices = source, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        return self._source[self._indices[index]]


SOURCE = array_source.ArraySource(19)


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("steps_per_dispatch", [1, 2, 3, 10])
def test_means_and_score_are_those_of_every_image_on_its_own(steps_per_dispatch, placement):
    """19 images: the last batch is filled up, and with groups of 2 and 3 so is the last group."""
    system = make_system(
        **{"step.steps_per_dispatch": steps_per_dispatch, "data.placement": placement}
    )
    state = system.init_state()
    split = validation.open_split(system, SOURCE)
    got = split.score(state)

    one_by_one = make_system()
    feed = pipeline.open_feed(SOURCE, one_by_one.settings, one_by_one.shardings, "validation")
    rows = []
    for index in range(len(SOURCE)):  # Four devices: four times the same image.
        (batch,) = feed.batches(lambda position, index=index: index, 4, 1)
        rows.append(jax.tree.map(lambda x: np.array(x)[0], one_by_one.eval_step(state, batch)))
    # Means of float32, computed in another batch.
    for name, value in (("loss", got.loss), ("loss_excess", got.excess)):
        np.testing.assert_allclose(value, np.mean([row[name] for row in rows]), rtol=1e-5)
    confusion = np.sum([row["confusion"] for row in rows], axis=0)
    assert got.score == validation.epoch_score(system.task, confusion)


def test_the_numbers_are_to_the_bit_those_of_the_evaluation():
    system = make_system()
    state, split = system.init_state(), validation.open_split(system, SOURCE)
    batches = split.feed.batches(order.in_turn(19), 4, 5)
    outputs = [jax.device_get(system.eval_step(state, batch)) for batch in batches]
    loss = np.concatenate([x["loss"] for x in outputs])[:19]
    confusion = np.concatenate([x["confusion"] for x in outputs])[:19].sum(axis=0)
    got = split.score(state)
    assert got.loss == float(loss.mean(dtype=np.float64))
    assert got.score == validation.epoch_score(system.task, confusion)


@pytest.mark.parametrize(
    ("num_records", "together", "want"),
    [
        (4, 10, [range(1)]),
        (44, 10, [range(6), range(6, 12)]),  # 11 batches: 10 and 1 would be two programs.
        (120, 10, [range(10), range(10, 20), range(20, 30)]),
        (12, 1, [range(1), range(1, 2), range(2, 3)]),
    ],
)
def test_dispatches_have_one_size_and_cover_the_split(num_records, together, want):
    system = make_system(**{"step.steps_per_dispatch": together})
    split = validation.open_split(system, array_source.ArraySource(num_records))
    assert split.dispatches() == want


def test_batches_are_as_large_as_those_of_training():
    for sizes, want in (((8, 4), 8), ((4, 8), 8)):
        changes = dict(zip(("data.batch_size", "data.eval_batch_size"), sizes, strict=True))
        assert validation.open_split(make_system(**changes), SOURCE).batch_size == want


@pytest.mark.parametrize("steps_per_dispatch", [1, 3])
def test_nothing_of_the_size_of_an_image_leaves_the_program(steps_per_dispatch):
    system = make_system(**{"step.steps_per_dispatch": steps_per_dispatch})
    split = validation.open_split(system, SOURCE)
    ((_, args),) = split.jobs(system.abstract_state())
    outputs = jax.eval_shape(system.jit_validation_step(split.feed.take), *args)
    assert outputs.keys() == {"loss", "loss_excess", "confusion"}
    largest = max(math.prod(x.shape[2:]) for x in jax.tree.leaves(outputs))
    assert largest == 9 < math.prod(system.settings.input_shape)
