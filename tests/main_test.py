"""What the flags come to; whole command lines are in commands_test.py."""

import os

import pytest
from absl.testing import flagsaver

from jaxlung import main


@pytest.mark.parametrize(
    ("workdir", "want"),
    [
        (None, "{here}/runs/covidqu_quick"),
        ("runs/x", "{here}/runs/x"),
        ("/data/x", "/data/x"),
        ("~/x", "{home}/x"),
    ],
)
def test_the_workdir_is_absolute(workdir, want, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with flagsaver.flagsaver(workdir=workdir):
        got = main.workdir_path("configs/covidqu.py:quick")
    assert str(got) == want.format(here=os.path.realpath(tmp_path), home=os.path.expanduser("~"))
