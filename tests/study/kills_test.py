"""Killed runs, killed schedulers: see `kills.py`, of which this runs a few rounds."""

import pytest

from tests.study import kills


@pytest.mark.slow
def test_a_study_that_is_killed_at_random_moments_has_the_same_table(tmp_path):
    assert kills.main(2, tmp_path) == 0
