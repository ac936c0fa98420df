"""The best band of HU against trying them all."""

import numpy as np

from jaxlung.evaluation import hu_baseline


def iou(hu, foreground, low, high):
    preds = (hu >= low) & (hu < high)
    return (preds & foreground).sum() / max((preds | foreground).sum(), 1)


def test_no_other_band_does_better():
    np_rng = np.random.default_rng(0)
    hu = np.concatenate([np_rng.normal(-850, 60, 900), np_rng.normal(-400, 150, 300)])
    hu = np.clip(hu, -1024, 3071).astype(np.int16)
    foreground = np.arange(1200) >= 900
    foreground[:50] = True  # Some that no band finds.
    band = hu_baseline.fit([(hu[:500], foreground[:500]), (hu[500:], foreground[500:])])
    found = iou(hu, foreground, band.low, band.high)
    np.testing.assert_array_equal(band.predict(hu), (hu >= band.low) & (hu < band.high))
    edges = range(-1024, 200, 16)
    best = max(iou(hu, foreground, low, high) for low in edges for high in edges if low < high)
    np.testing.assert_allclose(found, best)
    assert band.description == f"all voxels from {band.low} to {band.high - 1} HU"


def test_the_ends_of_the_scale_are_counted():
    hu = np.array([-1024, 3071, 0, 5], np.int16)
    band = hu_baseline.fit([(hu, np.array([False, True, False, False]))])
    np.testing.assert_array_equal(band.predict(hu), [False, True, False, False])
