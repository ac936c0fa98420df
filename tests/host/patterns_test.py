"""Invalid, endless and ordinary regular expressions."""

import time

import pytest

from jaxlung.host import patterns


def test_useful_patterns_are_quick():
    names = [f"patient{i:05}_view{i % 3}" for i in range(20_000)]
    patterns.require_quick(r"^(patient\d+)_", names, "patient_pattern", "search")
    patterns.require_quick(r"", ["a", "\udcfc"], "patient_pattern", "search")


@pytest.mark.parametrize("method", ["search", "fullmatch"])
def test_a_pattern_that_would_take_years_is_stopped(method, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"freeze: got '.*', which takes more than .* seconds for 1 name"
    ):
        patterns.require_quick("(a+)+$", ["a" * 60 + "b"], "freeze", method)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("pattern", ["(", "*", "[", "(?P<1>)", "a{99999999999}"])
def test_what_is_no_pattern_is_said_in_one_line(pattern):
    with pytest.raises(ValueError, match=r"^freeze: got .*, want a regular expression \(.+\)\.$"):
        patterns.require_quick(pattern, ["a"], "freeze", "search")
