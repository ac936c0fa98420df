"""Volumes on the device and back."""

import jax
import numpy as np
from absl.testing import parameterized

from jaxlung.volume import rows


class RowsTest(parameterized.TestCase):
    @parameterized.product(
        shape=[(1, 1, 1), (3, 5, 130), (70, 300, 2)], dtype=[np.int16, np.uint8, np.float32, bool]
    )
    def test_a_volume_returns_as_it_was(self, shape, dtype):
        array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
        with jax.transfer_guard("disallow"):
            there = rows.send(array, None)
            back = rows.fetch(there, shape)
        assert there.shape == rows.size(shape)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, array)
        on_device = np.asarray(there)
        depth, height, width = shape
        np.testing.assert_array_equal(on_device[: depth * height, :width].reshape(shape), array)
        assert not on_device[depth * height :].any()
        assert not on_device[:, width:].any()

    def test_is_sent_without_the_padding_of_its_rows(self):
        shape = (300, 512, 512)
        sent = sum(length for _, length, _ in rows.parts(shape))
        assert rows.size(shape) == (2**18, 512)
        assert 300 * 512 <= sent < 300 * 512 + rows.PART
