"""Tests of patches: inside their volume, equal in both feeds, centred as often as asked."""

import dataclasses

import jax
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, patches, pipeline
from jaxlung.data.transforms import volumes
from jaxlung.parallel import sharding
from jaxlung.volume import hounsfield
from tests import volume_source

SHAPES = [(9, 20, 30), (5, 33, 17), (12, 16, 16)]
SETTINGS = settings_lib.PatchSettings(
    patch_size=(4, 8, 8),
    patches_per_volume=5,
    foreground_fraction=0.5,
    foreground="infection",
    crop_to_lungs=False,
    spacing_mm=(0.0, 0.0, 0.0),
    batch_size=4,
    eval_batch_size=4,
    placement="device",
    num_threads=2,
    seed=3,
)


def change(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def open_feed(settings=SETTINGS, shapes=SHAPES):
    source = volume_source.VolumeSource(shapes)
    return pipeline.open_feed(source, settings, sharding.make_shardings(data=-1, space=1), "train")


def batches(feed, first, last, seed=0):
    take = jax.jit(feed.take)
    items = feed.items(order.shuffled(seed, feed.num_examples), 4, order.one_by_one(first, last))
    return [jax.device_get(take(feed.store, feed_lib.first_step(item))) for item in items]


class FeedTest(parameterized.TestCase):
    def test_both_feeds_give_the_same_patches(self):
        on_device, on_host = open_feed(), open_feed(change(placement="host"))
        assert on_device.is_resident
        assert not on_host.is_resident
        for got, want in zip(batches(on_device, 0, 6), batches(on_host, 0, 6), strict=True):
            assert got["images"].shape == (4, 4, 8, 8)
            assert (got["images"].dtype, got["masks"].dtype) == (np.int16, np.uint8)
            for name in ("images", "masks", "labels"):
                np.testing.assert_array_equal(got[name], want[name])

    def test_a_step_takes_the_same_arrays_for_any_volumes(self):
        other = [(slices + 1, rows + 3, columns) for slices, rows, columns in SHAPES[1:]]
        where = sharding.make_shardings(data=-1, space=1).steps
        one, two = (
            (feed.store, feed.abstract_item(2, 4, where), feed.example)
            for feed in (open_feed(), open_feed(shapes=other))
        )
        assert one == two

    @parameterized.parameters("device", "host")
    def test_a_resumed_run_sees_the_patches_it_would_have_seen(self, placement):
        feed = open_feed(change(placement=placement))
        for got, want in zip(batches(feed, 4, 6), batches(feed, 0, 6)[4:], strict=True):
            np.testing.assert_array_equal(got["images"], want["images"])

    def test_another_seed_cuts_other_patches(self):
        (got,), (want,) = batches(open_feed(change(seed=4)), 0, 1), batches(open_feed(), 0, 1)
        assert not np.array_equal(got["images"], want["images"])

    def test_every_patch_is_found_in_its_volume(self):
        source = volume_source.VolumeSource(SHAPES)
        feed = open_feed()
        assert feed.num_examples == 15
        for index in range(15):
            (item,) = feed.items(lambda position, index=index: index, 4, order.one_by_one(0, 1))
            patch = jax.device_get(jax.jit(feed.take)(feed.store, feed_lib.first_step(item)))[
                "images"
            ][0]
            windows = np.lib.stride_tricks.sliding_window_view(source[index // 5].image, (4, 8, 8))
            assert (windows == patch).all(axis=(-3, -2, -1)).any()

    def test_a_volume_thinner_than_a_patch_is_padded_with_air(self):
        (batch,) = batches(open_feed(shapes=[(2, 20, 20)]), 0, 1)
        assert (batch["images"][:, 2:] == hounsfield.LOWEST_HU).all()
        assert not batch["masks"][:, 2:].any()
        assert (batch["images"][:, :2] > hounsfield.LOWEST_HU).all()


class CornerTest(parameterized.TestCase):
    @parameterized.product(fraction=[0.0, 0.5, 1.0], shape=[(9, 20, 30), (4, 8, 8)])
    def test_no_patch_leaves_the_volume(self, fraction, shape):
        foreground = np.array([0, np.prod(shape) - 1], np.uint32)  # In two corners.
        for seed in range(200):
            np_rng = np.random.default_rng(seed)
            corner = patches.draw_corner(np_rng, shape, (4, 8, 8), foreground, fraction)
            assert all(0 <= c <= s - p for c, s, p in zip(corner, shape, (4, 8, 8), strict=True))

    def test_patches_reach_every_corner_of_a_volume(self):
        none = np.array([], np.uint32)
        drawn = {
            patches.draw_corner(np.random.default_rng(seed), (5, 9, 9), (4, 8, 8), none, 1.0)
            for seed in range(200)
        }
        assert drawn == {(d, h, w) for d in (0, 1) for h in (0, 1) for w in (0, 1)}

    def test_a_centred_patch_has_its_voxel_in_the_middle(self):
        voxel = np.ravel_multi_index((10, 20, 30), (20, 40, 60))
        corner = patches.draw_corner(
            np.random.default_rng(0), (20, 40, 60), (4, 8, 8), np.array([voxel]), 1.0
        )
        assert corner == (8, 16, 26)

    def test_so_many_patches_are_centred_as_asked(self):
        voxel = np.array([np.ravel_multi_index((10, 20, 30), (20, 40, 60))])
        corners = [
            patches.draw_corner(np.random.default_rng(s), (20, 40, 60), (4, 8, 8), voxel, 0.3)
            for s in range(1000)
        ]
        # The standard deviation is 14.5.
        assert abs(corners.count((8, 16, 26)) - 300) < 60


class VolumesTest(parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_what_was_made_ready_goes_back_where_it_was(self, crop):
        item = volume_source.VolumeSource([(9, 21, 30)])[0]
        ready = volumes.load(item, change(crop_to_lungs=crop, patch_size=(8, 8, 8)))
        back = volumes.restore(ready.image.astype(np.float32), ready, item.image.shape)
        lung = item.mask & record.LUNG > 0
        np.testing.assert_array_equal(back[lung], item.image[lung])
        assert (ready.image.size < item.image.size) == crop
        if crop:
            assert not back[0].any()

    def test_a_common_spacing_changes_the_voxels_and_back(self):
        item = volume_source.VolumeSource([(10, 20, 30)])[0]  # 2 x 1 x 1 mm
        ready = volumes.load(item, change(spacing_mm=(1.0, 0.0, 2.0)))
        assert ready.image.shape == (20, 20, 15)
        probs = (ready.mask & record.INFECTION > 0).astype(np.float32)
        back = volumes.restore(probs, ready, item.image.shape) > 0.5
        infected = item.mask & record.INFECTION > 0
        assert back.shape == infected.shape
        assert 2 * (back & infected).sum() / (back.sum() + infected.sum()) > 0.8

    def test_the_box_of_the_lungs_is_tight(self):
        mask = np.zeros((5, 6, 7), np.uint8)
        mask[1, 2, 3], mask[3, 2, 5] = record.LUNG, record.INFECTION
        assert volumes.find_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 6))
        assert volumes.find_box(0 * mask) == (slice(None),) * 3


class SettingsTest(parameterized.TestCase):
    @parameterized.parameters(
        (dict(patch_size=(8, 128)), r"data.patch_size: got \(8, 128\), want slices"),
        (dict(patch_size=(0, 8, 8)), "data.patch_size"),
        (dict(foreground="heart"), "data.foreground: got 'heart', want one of lung, infection"),
        (dict(foreground_fraction=1.5), "data.foreground_fraction: got 1.5"),
        (dict(spacing_mm=(1.0, -1.0, 0.0)), "data.spacing_mm"),
        (dict(patches_per_volume=0), "data.patches_per_volume: got 0, want 1 or more"),
        (dict(placement="gpu"), "data.placement: got 'gpu'"),
    )
    def test_what_can_not_be_is_named(self, changes, message):
        with pytest.raises(ValueError, match=message):
            change(**changes)
