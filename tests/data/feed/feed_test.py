"""Tests that both feeds give the same batches, with every record once per epoch."""

import dataclasses

import jax
import numpy as np
import pytest
from absl.testing import parameterized

from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import order, pipeline, resident
from jaxlung.parallel import sharding
from tests import array_source

SECTION = dict(
    name="x",
    image_size=16,
    resize="squash",
    batch_size=4,
    eval_batch_size=4,
    placement="device",
    num_threads=2,
)


def open_feed(placement, num_images=10, size=32):
    shardings = sharding.make_shardings(data=-1, space=1)
    section = SECTION | {"placement": placement}
    settings = settings_lib.ImageSettings(**{k: v for k, v in section.items() if k != "name"})
    return pipeline.open_feed(
        array_source.ArraySource(num_images, size), settings, shardings, "train"
    )


def batches(feed, first, last, seed=0):
    take = jax.jit(feed.take)
    items = feed.items(order.shuffled(seed, feed.num_examples), 4, order.one_by_one(first, last))
    return [jax.device_get(take(feed.store, feed_lib.first_step(item))) for item in items]


class FeedTest(parameterized.TestCase):
    def test_resident_and_streamed_batches_are_the_same_over_epochs(self):
        on_device, on_host = open_feed("device"), open_feed("host")
        assert on_device.is_resident
        assert not on_host.is_resident
        pairs = zip(batches(on_device, 0, 8), batches(on_host, 0, 8), strict=True)
        for got, want in pairs:
            np.testing.assert_array_equal(got["images"], want["images"])
            np.testing.assert_array_equal(got["masks"], want["masks"])
            np.testing.assert_array_equal(got["labels"], want["labels"])

    @parameterized.parameters((81, 88), (87, 88), (88, 88), (89, 96), (10, 10))
    def test_folds_of_about_equal_size_have_stores_of_one_shape(self, num_images, want):
        feed = open_feed("device", num_images, size=16)
        assert {len(array) for array in feed.store.values()} == {want}
        assert feed.num_examples == num_images

    @parameterized.parameters(*range(1, 300, 7), 100_001)
    def test_rounding_adds_an_eighth_at_most(self, size):
        assert size <= feed_lib.rounded(size) <= size * 9 / 8
        assert feed_lib.rounded(feed_lib.rounded(size)) == feed_lib.rounded(size)

    @parameterized.parameters("device", "host")
    def test_a_later_start_gives_what_the_whole_run_gave(self, placement):
        feed = open_feed(placement)
        for got, want in zip(batches(feed, 5, 8), batches(feed, 0, 8)[5:], strict=True):
            np.testing.assert_array_equal(got["images"], want["images"])

    @parameterized.parameters("device", "host")
    def test_every_record_once_per_epoch_and_images_with_their_masks(self, placement):
        feed = open_feed(placement)
        got = batches(feed, 0, 5)  # Two epochs of ten.
        want = batches(open_feed("device"), 0, 5, seed=1)

        def pairs(all_batches):
            rows = (zip(b["images"], b["masks"], strict=True) for b in all_batches)
            return sorted(image.tobytes() + mask.tobytes() for row in rows for image, mask in row)

        assert pairs(got) == pairs(want)
        assert len(set(pairs(got))) == 10

    @parameterized.parameters("device", "host")
    def test_labels_are_those_of_their_images(self, placement):
        source = array_source.ArraySource(10, size=16)
        label_of = {source[i].image.tobytes(): source[i].label for i in range(10)}
        for batch in batches(open_feed(placement, size=16), 0, 5):
            want = [label_of[image.tobytes()] for image in batch["images"]]
            np.testing.assert_array_equal(batch["labels"], want)
            assert batch["labels"].dtype == np.uint8

    def test_batches_are_split_over_the_devices(self):
        feed = open_feed("host")
        (item,) = feed.items(order.in_turn(10), 4, order.one_by_one(0, 1))
        assert len(item["images"].sharding.device_set) == 4
        assert {shard.data.shape for shard in item["images"].addressable_shards} == {(1, 1, 16, 16)}

    def test_auto_streams_what_does_not_fit(self):
        assert resident.fits(2 * 10 * 256**2)
        assert not resident.fits(10**15)

    def test_no_images_is_an_error_that_names_the_split(self):
        with pytest.raises(ValueError, match="split 'train': got nothing, want at least one"):
            open_feed("device", num_images=0)

    @parameterized.parameters(
        (dict(placement="gpu"), r"data.placement: got 'gpu', want one of auto, device, host"),
        (dict(resize="crop"), r"data.resize: got 'crop', want one of squash, pad"),
        (dict(batch_size=0), r"data.batch_size: got 0, want 1 or more"),
    )
    def test_settings_that_can_not_be_are_errors(self, change, message):
        with pytest.raises(ValueError, match=message):
            settings_lib.split_section(SECTION | change, seed=0)

    def test_a_section_is_parted_into_dataset_and_settings(self):
        fields, settings = settings_lib.split_section(SECTION, seed=0)
        assert fields == {"name": "x"}
        assert dataclasses.asdict(settings) | fields == SECTION
