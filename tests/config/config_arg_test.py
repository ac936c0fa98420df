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
