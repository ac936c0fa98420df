"""The argument after the colon of --config is parsed into variants."""

import pytest
from absl.testing import parameterized

from jaxlung.config import config_arg


class ConfigArgTest(parameterized.TestCase):
    @parameterized.parameters(
        ("", (False, 0.5, "lung")),
        ("quick", (True, 0.5, "lung")),
        ("quick=false,target=infection", (False, 0.5, "infection")),
        ("alpha=0.25,quick=True", (True, 0.25, "lung")),
    )
    def test_sets_what_is_named(self, arg, want):
        got = config_arg.parse_arg(arg, quick=False, alpha=0.5, target="lung")
        assert (got.quick, got.alpha, got.target) == want

    @parameterized.parameters(
        ("quik", "got 'quik', want one of quick, alpha"),
        ("quick=maybe", "quick: got 'maybe', want true or false"),
        ("alpha", "alpha: got no value"),
        ("alpha=half", "alpha: got 'half', want float"),
    )
    def test_anything_else_is_an_error(self, arg, message):
        with pytest.raises(ValueError, match=message):
            config_arg.parse_arg(arg, quick=False, alpha=0.5)

    @parameterized.parameters(
        ("", ("", 0, 0), [], 1),
        ("quick,target=lung", ("quick,target=lung", 0, 0), [], 1),
        ("folds=5", ("", 5, 0), ["folds"], 5),
        ("target=lung,seeds=3,quick", ("target=lung,quick", 0, 3), ["seeds"], 3),
        ("seeds=3,folds=5", ("", 5, 3), ["folds", "seeds"], 15),
        ("seeds=1", ("", 0, 1), ["seeds"], 1),  # A study to which more can be added.
        ("fold=0,folds=5", ("fold=0,folds=5", 0, 0), [], 1),  # One run, as ever.
        ("folds=5,fold=0,seeds=2", ("folds=5,fold=0", 0, 2), ["seeds"], 2),
        ("folds=0", ("folds=0", 0, 0), [], 1),
        ("folds=1", ("folds=1", 0, 0), [], 1),  # The dataset refuses it.
    )
    def test_folds_and_seeds_are_taken_out(self, arg, want, kinds, number):
        got = config_arg.split_repeats(arg)
        assert (got.arg, got.folds, got.seeds) == want
        assert (got.kinds, got.number) == (kinds, number)

    @parameterized.parameters(
        ("seeds=0", "seeds: got 0, want 1 or more"),
        ("seeds=-2", "seeds: got -2, want 1 or more"),
        ("seeds", "seeds: got no value, want seeds=VALUE"),
        ("seeds=many", "seeds: got 'many', want int"),
        ("folds=1.5", "folds: got '1.5', want int"),
        ("quick,folds", "folds: got no value"),
    )
    def test_numbers_that_can_not_be_are_refused(self, arg, message):
        with pytest.raises(ValueError, match=message):
            config_arg.split_repeats(arg)
