"""Masks and images of a download, in every kind that a mask may be drawn in."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.image import deep_pngs, image_files
from tfds_builders import png, raw_tree

DISC = np.hypot(*(np.mgrid[:40, :40] - 19)) < 12
ZERO = np.zeros(DISC.shape, np.uint8)


def tree(content):
    return raw_tree.RawTree("a.zip", ["m.png"], lambda name: content)


@pytest.mark.parametrize(
    "content",
    [
        image_files.encoded(Image.fromarray(DISC), "PNG"),
        image_files.encoded(Image.fromarray(DISC.astype(np.uint8)), "PNG"),
        image_files.encoded(Image.fromarray(DISC * np.uint8(255)), "JPEG"),
        image_files.encoded(Image.fromarray(np.dstack([DISC * np.uint8(255), ZERO, ZERO])), "PNG"),
        image_files.encoded(Image.fromarray(np.dstack([ZERO] * 3 + [np.uint8(255) * DISC])), "PNG"),
        deep_pngs.encoded(np.dstack([DISC.astype(np.uint16)] * 3)),
    ],
    ids=["1 bit", "0 and 1", "JPEG", "red", "black on nothing", "0 and 1 in 16 bits"],
)
def test_masks_of_every_kind_are_read_alike(content):
    got = png.decode_mask(tree(content), "m.png", (40, 40))
    np.testing.assert_array_equal(np.asarray(got), 255 * DISC)


def test_an_empty_mask_is_empty():
    content = image_files.encoded(Image.fromarray(ZERO), "PNG")
    assert not np.any(png.decode_mask(tree(content), "m.png", (40, 40), share=0))


def test_what_has_more_than_eight_bits_or_no_end_is_named():
    for deep in (np.full((4, 5, 1), 900), np.full((4, 5, 3), 900)):
        with pytest.raises(ValueError, match=r"^a\.zip: m\.png: want 8 bits a channel, got more"):
            png.decode(tree(deep_pngs.encoded(deep)), "m.png")
    bomb = deep_pngs.encoded(np.full((4, 5, 1), 900)).replace(
        struct.pack(">II", 5, 4), struct.pack(">II", 10**5, 10**5)
    )
    with pytest.raises(ValueError, match=r"^a\.zip: m\.png: (want at most|can't be decoded)"):
        png.decode(tree(bomb), "m.png")
