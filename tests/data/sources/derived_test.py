"""Tests of parts of sources, and of several sources joined."""

import numpy as np
from absl.testing import parameterized

from jaxlung.data.sources import derived
from tests import array_source


def ids_of(source):
    ids = [source[i].image_id for i in range(len(source))]
    assert [image_id for image_id, _ in source.people()] == ids
    return ids


class SelectionTest(parameterized.TestCase):
    @parameterized.parameters([[]], [[3]], [[4, 0, 2]])
    def test_a_subset_has_the_records_asked_for_in_that_order(self, indices):
        source = array_source.ArraySource(5, size=8)
        part = derived.Subset(source, indices)
        assert ids_of(part) == [f"image_{i}" for i in indices]
        assert part.people() == [(f"image_{i}", f"patient_{i // 2}") for i in indices]

    @parameterized.parameters([(2, 3)], [(1, 1, 4)], [(3, 0, 2)], [(0, 2)])
    def test_joined_sources_follow_each_other(self, sizes):
        sources = [array_source.ArraySource(n, size=8, seed=i) for i, n in enumerate(sizes)]
        joined = derived.Joined(sources)
        want = [source[i] for source in sources for i in range(len(source))]
        assert len(joined) == len(want)
        for index, item in enumerate(want):
            np.testing.assert_array_equal(joined[index].image, item.image)
        assert ids_of(joined) == [item.image_id for item in want]
