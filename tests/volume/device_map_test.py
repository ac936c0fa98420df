"""Maps on the device against NumPy on the host."""

import jax
import numpy as np
from absl.testing import parameterized
from scipy import stats

from jaxlung.volume import device_map, resample, rows


def random_map(laid_out, box, shape, seed=0):
    """A map and the same one on the host; the values past the box are no zeros."""
    values = np.random.default_rng(seed).random(laid_out, np.float32)
    found = device_map.make(rows.send(values, None), laid_out, box, shape)
    whole = np.zeros(shape, np.float32)
    whole[box] = values[tuple(slice(part.stop - part.start) for part in box)]
    return found, whole


def box(*ends):
    return tuple(slice(*pair) for pair in ends)


CASES = {
    "whole": ((7, 19, 13), box((0, 7), (0, 19), (0, 13)), (7, 19, 13)),
    "cut": ((4, 5, 6), box((2, 6), (3, 8), (7, 13)), (7, 19, 13)),
    "padded": ((9, 20, 130), box((0, 6), (1, 19), (0, 13)), (6, 19, 14)),
    "one voxel": ((1, 1, 1), box((2, 3), (4, 5), (6, 7)), (5, 9, 11)),
    "many rows": ((40, 300, 3), box((1, 41), (0, 300), (0, 3)), (42, 300, 5)),
}


class MapTest(parameterized.TestCase):
    @parameterized.parameters(*CASES.values())
    def test_comes_home_as_it_is_and_as_a_mask(self, laid_out, place, shape):
        found, want = random_map(laid_out, place, shape)
        with jax.transfer_guard("disallow"):
            got, above = found.fetch(), found.above(0.3)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(above, want > np.float32(0.3))
        assert above.dtype == bool

    @parameterized.product(
        case=list(CASES), wanted=[(7, 19, 13), (5, 31, 8), (13, 7, 200), (1, 1, 1)], whole=[0, 1]
    )
    def test_is_resampled_to_the_bits_of_the_hosts(self, case, wanted, whole):
        found, on_host = random_map(*CASES[case])
        with jax.transfer_guard("disallow"):
            resampled = found.resampled(wanted, whole=bool(whole))
            got = resampled.fetch()
        np.testing.assert_array_equal(got, resample.to_shape(on_host, wanted, labels=False))
        assert resampled.laid_out == wanted or not whole

    def test_only_what_can_be_above_0_is_resampled(self):
        found, _ = random_map((4, 5, 6), box((2, 6), (3, 8), (7, 13)), (10, 20, 40))
        assert found.resampled((20, 40, 80)).laid_out == (10, 12, 14)

    def test_one_program_resamples_to_all_shapes_of_a_size(self):
        found, _ = random_map(*CASES["whole"])
        found.resampled((9, 33, 50))
        before = device_map._interpolate._cache_size()
        for wanted in [(15, 20, 100), (17, 17, 17)]:  # To 512 rows of 128.
            found.resampled(wanted)
        assert device_map._interpolate._cache_size() == before

    @parameterized.parameters(*CASES.values())
    def test_is_measured_as_on_the_host(self, laid_out, place, shape):
        found, values = random_map(laid_out, place, shape)
        mask = np.random.default_rng(1).random(shape) < 0.4
        mask[place] |= True
        entropies = stats.entropy([values.ravel(), 1 - values.ravel()], base=2).reshape(shape)
        with jax.transfer_guard("disallow"):
            got = found.mean(mask), found.mean_entropy_bits(mask), found.mean_entropy_bits()
        want = values[mask].mean(), entropies[mask].mean(), entropies.mean()
        np.testing.assert_allclose(got, want, rtol=2e-6)
        assert np.isnan(found.mean(np.zeros(shape, bool)))

    def test_sure_voxels_have_no_entropy_and_no_nan(self):
        values = np.float32([0, 1, 0.5, 0]).reshape(1, 2, 2)
        place = box((0, 1), (0, 2), (0, 2))
        found = device_map.make(rows.send(values, None), values.shape, place, values.shape)
        assert found.mean_entropy_bits() == 0.25

    def test_is_cut_to_a_mask_and_to_probabilities(self):
        found, values = random_map(*CASES["padded"])
        mask = np.random.default_rng(1).random(values.shape) < 0.4
        np.testing.assert_array_equal(found.inside(mask).fetch(), values * mask)
        shifted = device_map.make(2 * found.rows, found.laid_out, found.box, found.shape)
        np.testing.assert_array_equal(shifted.clipped().fetch(), np.clip(2 * values, 0, 1))
