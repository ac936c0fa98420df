"""The network over whole volumes: what lungs spare, on one device and on four, on any spacing."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.data.transforms import volumes
from jaxlung.parallel import sharding
from jaxlung.training import system as system_lib
from jaxlung.training.inference import volumes as volume_inference
from tests import volume_source

SMALL = {  # Compiles in seconds; still sees a whole window at once, by its attention.
    "data.eval_batch_size": 8,
    "model.widths": (4, 8),
    "model.strides": ((1, 2, 2),),
    "model.paspp": False,
    "model.deep_supervision": False,
}


def make_system(**changes):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    config.update_from_flattened_dict(SMALL | changes)
    return system_lib.make_system(config)


def on_one_device(monkeypatch):
    monkeypatch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])


def make_item():
    """A volume whose lungs are a small box in one corner and another in the opposite one."""
    item = volume_source.VolumeSource([(10, 50, 40)])[0]
    mask = np.zeros_like(item.mask)
    mask[:3, 2:13, 3:15] = mask[8:, 39:, 30:] = record.LUNG
    return dataclasses.replace(item, mask=mask)


def predict(system, state, item, *, mirror=False):
    volume = volumes.load(item, system.settings)
    found = volume_inference.predict(system, state, volume, overlap=0.5, mirror=mirror)
    return found.fetch()


def test_probabilities_inside_the_lungs_are_those_of_all_windows_to_the_bit(monkeypatch):
    on_one_device(monkeypatch)
    item = make_item()
    system = make_system()
    everywhere = dataclasses.replace(
        system, inference=dataclasses.replace(system.inference, inside_lungs=False)
    )
    everywhere.__dict__["window_step"] = system.window_step  # Compiled once.
    state = system.init_state()
    lung = item.mask & record.LUNG > 0
    box = volumes.find_box(item.mask)
    for mirror in (False, True):
        got = predict(system, state, item, mirror=mirror)
        want = predict(everywhere, state, item, mirror=mirror)
        np.testing.assert_array_equal(got[lung], want[lung])
        np.testing.assert_array_equal(got[~lung], 0)
        assert want[box][~lung[box]].min() > 0
        assert np.ptp(got[lung]) > 0.001


def test_windows_without_lung_are_not_judged():
    item = make_item()
    system = make_system()
    judged = []

    def step(state, batch):
        judged.append(np.asarray(batch["masks"]) & record.LUNG > 0)
        return batch["images"].astype(np.float32)

    system.__dict__["window_step"] = step
    predict(system, None, item)
    held = np.concatenate(judged).any(axis=(1, 2, 3))
    assert np.count_nonzero(~held) < 8  # Only what fills up the last batch.
    assert np.count_nonzero(held) < 4 * 6 * 4 / 2  # Windows of the volume, along D, H and W.


def test_four_devices_share_each_batch_and_agree_with_one(monkeypatch):
    if jax.device_count() < 4:
        pytest.skip("one device")
    item = make_item()
    four = make_system()
    assert four.shardings.num_batch_shards == 4
    step = four.window_step
    # One program at a time: with several in flight, CPU devices that wait for each other can hold
    # all threads.
    four.__dict__["window_step"] = lambda *args: jax.block_until_ready(step(*args))
    got = predict(four, jax.block_until_ready(four.init_state()), item)
    on_one_device(monkeypatch)
    one = make_system()
    assert one.shardings.num_batch_shards == 1
    np.testing.assert_allclose(got, predict(one, one.init_state(), item), atol=1e-6)
    # What a device computes is of 2 of a batch's 8 windows.
    batch = {
        name: jax.ShapeDtypeStruct((8, 4, 16, 16), dtype, sharding=four.shardings.replicated)
        for name, dtype in (("images", np.int16), ("masks", np.uint8))
    }
    program = step.lower(four.abstract_state(), batch).compile().as_text()
    assert "f32[2,4,16,16,4]" in program
    assert "f32[8,4,16,16,4]" not in program


def test_on_the_records_own_voxels_nothing_is_found_outside_the_lungs():
    item = make_item()
    for spacing_mm in ((0.0, 0.0, 0.0), (1.5, 1.3, 0.8)):
        system = make_system(**{"data.spacing_mm": spacing_mm})
        system.__dict__["window_step"] = jax.jit(lambda state, batch: 0 * batch["images"] + 0.75)
        probs = volume_inference.predict_record(system, None, item)
        assert probs.shape == item.image.shape
        lung = item.mask & record.LUNG > 0
        np.testing.assert_array_equal(probs[~lung], 0)
        deep = np.zeros_like(lung)
        deep[0, 5:10, 6:12] = True
        np.testing.assert_allclose(probs[deep], 0.75, atol=1e-6)
