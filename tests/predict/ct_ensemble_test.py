"""Ensembles for CTs on the device against those for pictures and measures on the host."""

import numpy as np
import pytest

from jaxlung.predict import ct_ensemble, ensemble, measure
from jaxlung.volume import device_map, rows

SHAPE = (5, 9, 14)


class Fake:
    """The parts of a network for CTs that an ensemble uses; finds what it is given."""

    input_form = ()

    def __init__(self, values, threshold=0.5, devices=(0,)):
        self._values, self._threshold, self.devices = values, threshold, devices

    def prepare(self, item):
        return item

    def find_in_volume(self, item, *, whole=False, prepared=None):
        del item, prepared
        box = tuple(slice(0, length) for length in self._values.shape)
        sent = rows.send(self._values, None)
        found = device_map.make(sent, self._values.shape, box, self._values.shape)
        return found.resampled(SHAPE, whole=whole)

    def mask_of(self, found):
        return found.above(self._threshold)

    def preds(self, probs):
        return (probs > self._threshold).astype(np.uint8)


class Judge(Fake):
    system = type("System", (), {"task": type("Task", (), {"is_map": True})})


def make_outputs(count):
    outputs = np.random.default_rng(0).random((count, *SHAPE), np.float32)
    outputs[:, 0] = 0.1  # Where nobody finds anything.
    return outputs


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("lungs", ["", "some", "none"])
def test_is_the_ensemble_of_the_host(count, lungs):
    outputs = make_outputs(count)
    members = tuple(map(Fake, outputs))
    each = ensemble.Ensemble(members, Judge(outputs[0]))
    mask = np.zeros(SHAPE, bool) if lungs else None
    if lungs == "some":
        mask[1:4, 2:, 3:11] = True
    want = each.combine(iter(outputs))
    certainty = measure.measure(
        want.preds > 0, want.probs, mask, (1.0, 1.0, 1.0), target="infection"
    )
    got = ct_ensemble.find(each, None, mask, keep_probs=True)
    np.testing.assert_array_equal(got.preds, want.preds)
    np.testing.assert_allclose(got.probs, want.probs, rtol=1e-6)
    np.testing.assert_allclose(got.disagreement, want.disagreement, rtol=1e-5)
    for name in ("confidence", "entropy_bits"):
        np.testing.assert_allclose(got.certainty[name], certainty[name], rtol=2e-6)
    if count > 1:
        np.testing.assert_allclose(got.spread, want.spread, atol=1e-6)
    else:
        assert got.spread is None


def test_probabilities_that_are_not_written_stay_on_the_device():
    outputs = make_outputs(2)
    each = ensemble.Ensemble(tuple(map(Fake, outputs)), Judge(outputs[0]))
    got = ct_ensemble.find(each, None, None, keep_probs=False)
    assert got.probs is None
    assert got.spread is None
    assert got.disagreement > 0


def test_members_of_other_spacings_are_averaged_voxel_by_voxel():
    fine, coarse = np.full((10, 18, 7), 0.9, np.float32), np.full((3, 4, 5), 0.3, np.float32)
    each = ensemble.Ensemble((Fake(fine), Fake(coarse)), Judge(fine))
    got = ct_ensemble.find(each, None, None, keep_probs=True)
    np.testing.assert_allclose(got.probs, np.full(SHAPE, 0.6), rtol=1e-6)
    assert got.preds.all()
    np.testing.assert_allclose(got.disagreement, 0.3, rtol=1e-5)


def test_nothing_found_has_no_confidence():
    values = np.full(SHAPE, 0.2, np.float32)
    got = ct_ensemble.find(
        ensemble.Ensemble((Fake(values),), Judge(values)), None, None, keep_probs=False
    )
    assert "confidence" not in got.certainty
    np.testing.assert_allclose(got.certainty["entropy_bits"], 0.7219281, rtol=1e-6)
