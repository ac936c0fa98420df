"""Tests that phantom CTs resemble real ones, and that no threshold finds their infection."""

import functools

import numpy as np
import pytest
from absl.testing import absltest, parameterized
from scipy import ndimage

from tfds_builders.phantoms import chest_ct, chest_tubes, covid19_ct_seg


@functools.cache
def _scan(case_id):
    return covid19_ct_seg.make_case(case_id, seed=0)[0]


def _best_band_dice(values, infected):
    """Dice of the best band of HU with full knowledge of the truth; brute force."""
    scores = []
    for low in range(-900, 0, 50):
        for high in (-500, -300, -100, 100, 4000):
            found = (values >= low) & (values < high)
            scores.append(2 * np.sum(found & infected) / (found.sum() + infected.sum()))
    return max(scores)


class ChestCTTest(parameterized.TestCase):
    @parameterized.parameters("coronacases_001", "coronacases_004", "radiopaedia_10_85902_1")
    def test_anatomy_is_where_it_belongs(self, case_id):
        scan = _scan(case_id)
        depth, height, width = scan.image.shape
        for label in (chest_ct.LEFT, chest_ct.RIGHT):
            regions, _ = ndimage.label(scan.lung_mask == label)
            sizes = np.sort(np.bincount(regions.ravel())[1:])
            assert sizes[-1] > 0.97 * sizes.sum()
            self.assertBetween(sizes.sum() / scan.image.size, 0.04, 0.2)
        lungs = scan.lung_mask > 0
        assert np.median(scan.image[lungs & (scan.infection_mask == 0)]) < -700
        assert scan.image[:, :2].mean() < -900  # Air around.
        body = scan.image[depth // 2] > -300
        self.assertBetween(body.mean(), 0.2, 0.6)
        # The trachea: air in the middle of the uppermost slice that is no lung.
        top = (scan.image[-1] < -600) & (scan.lung_mask[-1] == 0)
        regions, _ = ndimage.label(top[height // 4 : -height // 4, width // 3 : -width // 3])
        assert regions.max() == 1

    def test_infection_is_within_the_lungs_and_denser(self):
        for case_id in ("coronacases_001", "radiopaedia_10_85902_1"):
            scan = _scan(case_id)
            infected, lungs = scan.infection_mask > 0, scan.lung_mask > 0
            assert not np.any(infected & ~lungs)
            healthy = scan.image[lungs & ~infected].mean()
            assert scan.image[infected].mean() > healthy + 100
            self.assertBetween(infected.sum() / lungs.sum(), 0.03, 0.4)

    def test_one_case_is_hardly_infected(self):
        scan = _scan("radiopaedia_29_86490_1")
        self.assertBetween(scan.infection_mask.sum(), 1, 0.01 * (scan.lung_mask > 0).sum())

    def test_no_band_of_hu_finds_infection(self):
        scans = [_scan(x) for x in covid19_ct_seg.case_ids(20)[::3]]
        lungs = [scan.lung_mask > 0 for scan in scans]
        values = np.concatenate([s.image[x] for s, x in zip(scans, lungs, strict=True)])
        infected = np.concatenate([s.infection_mask[x] for s, x in zip(scans, lungs, strict=True)])
        assert _best_band_dice(values, infected > 0) < 0.6

    def test_smallest_scan(self):
        np_rng = np.random.default_rng(0)
        scan = chest_ct.make(np_rng, chest_ct.MIN_SHAPE, (25.0, 11.0, 11.0), 0.1)
        assert scan.infection_mask.any()
        with pytest.raises(ValueError, match=r"want at least \(8, 32, 32\), got \(7, 32, 32\)"):
            chest_ct.make(np_rng, (7, 32, 32), (25.0, 11.0, 11.0), 0.1)


class TubesTest(absltest.TestCase):
    def test_volume_of_a_tube_is_that_of_a_capsule(self):
        axes = [np.arange(-20, 60, step) for step in (1.0, 1.0, 1.0)]
        tube = chest_tubes.Tube(np.zeros(3), np.array([12.0, 24.0, 24.0]), 6.0)
        share = chest_tubes.coverage([tube], axes, [len(axis) for axis in axes])
        want = np.pi * 6**2 * 36 + 4 / 3 * np.pi * 6**3
        np.testing.assert_allclose(share.sum(), want, rtol=0.02)

    def test_a_tube_may_leave_the_volume(self):
        axes = [np.arange(0, 5, 1.0)] * 3
        outside = chest_tubes.Tube(np.full(3, 20.0), np.full(3, 30.0), 2.0)
        assert not chest_tubes.coverage([outside], axes, (5, 5, 5)).any()
        through = chest_tubes.Tube(np.array([-9.0, 2, 2]), np.array([20.0, 2, 2]), 1.0)
        assert (chest_tubes.coverage([through], axes, (5, 5, 5))[:, 2, 2] == 1).all()


if __name__ == "__main__":
    absltest.main()
