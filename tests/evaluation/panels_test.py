"""Which images are shown."""

import numpy as np
import pytest

from jaxlung.evaluation import panels


def test_two_of_each_kind_in_order_of_score():
    ranks = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.8, 0.2, 0.6])
    assert panels.choose(ranks) == [
        ("best", 1),
        ("best", 5),
        ("median", 7),
        ("median", 2),
        ("worst", 6),
        ("worst", 0),
    ]


@pytest.mark.parametrize(("num_images", "want"), [(1, 1), (2, 2), (3, 3), (5, 3), (6, 6)])
def test_few_images_are_shown_once_each(num_images, want):
    chosen = [index for _, index in panels.choose(np.arange(num_images, dtype=float))]
    assert len(chosen) == len(set(chosen)) == want
