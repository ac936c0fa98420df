"""The thoracic width is that of the box around the lungs."""

import numpy as np

from jaxlung.predict import thorax


def test_the_width_is_from_border_to_border_over_all_rows():
    lungs = np.zeros((40, 60), bool)
    lungs[5:20, 10:25], lungs[20:35, 40:50] = True, True
    assert thorax.width(lungs) == 40
    assert thorax.width(lungs[:, ::-1]) == 40
    assert thorax.width(lungs[::2]) == 40
    assert thorax.width(np.repeat(lungs, 3, axis=1)) == 120


def test_crumbs_beside_the_lungs_do_not_widen_them():
    lungs = np.zeros((40, 60), bool)
    lungs[5:35, 10:25] = lungs[5:35, 30:50] = True
    lungs[0, 0] = lungs[39, 55:] = True
    assert thorax.width(lungs) == 40
    assert np.isnan(thorax.width(np.indices((40, 60)).sum(axis=0) % 2 > 0))  # Nothing but crumbs.
