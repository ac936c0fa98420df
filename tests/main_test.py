"""What the flags come to; whole command lines are in commands_test.py."""

import json
import os

import pytest
from absl.testing import flagsaver
from etils import epath

from jaxlung import config_file, main
from tests.report import report_summary


@pytest.mark.parametrize(
    ("workdir", "want"),
    [
        (None, "{here}/runs/covidqu_quick"),
        (["runs/x"], "{here}/runs/x"),
        (["/data/x"], "/data/x"),
        (["~/x"], "{home}/x"),
    ],
)
def test_the_workdir_is_absolute(workdir, want, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with flagsaver.flagsaver(workdir=workdir):
        got = main.workdir_path("configs/covidqu.py:quick")
    assert str(got) == want.format(here=os.path.realpath(tmp_path), home=os.path.expanduser("~"))


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["--workdir=x", "--input="], "--input"),
        (["--config", ""], "--config"),
        (["-output= "], "-output"),
    ],
)
def test_flags_without_a_value_are_refused(args, name):
    with pytest.raises(ValueError, match=f"^{name}: got nothing, .* shell variable unset"):
        main.require_values(["jaxlung", *args])


def test_fields_of_the_config_may_be_empty():
    main.require_values(["jaxlung", "--config=x", "--config.data.root=", "--config.data.csv", ""])


def test_a_studys_folder_is_named_after_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with flagsaver.flagsaver(workdir=None):
        got = main.workdir_path("configs/studies/alphas.py:phantom", "studies")
    assert str(got) == os.path.realpath(tmp_path) + "/studies/alphas_phantom"


def test_help_names_what_is_shipped():
    text = main.usage()
    for name in (*config_file.shipped_configs(), *config_file.shipped_studies()):
        assert name in text
    assert "studies" not in config_file.shipped_configs()
    assert not set(config_file.shipped_configs()) & set(config_file.shipped_studies())


def test_a_report_comes_with_a_model_card(tmp_path):
    content = report_summary.make("diagnosis", {"auc": 0.9, "accuracy": 0.81234})
    (tmp_path / "summary_test.json").write_text(json.dumps(content))
    with flagsaver.flagsaver(mode="report"):
        assert main.run_on_a_run(epath.Path(tmp_path)) == 0
    for name in ("report.html", "MODEL_CARD.md"):
        assert "0.8123" in (tmp_path / name).read_text()


def test_a_field_of_the_runs_own_config_is_set_to_evaluate_it(tmp_path):
    path, override = tmp_path / "run", "--config.data.root=moved"
    with flagsaver.flagsaver():
        command = main.parse(["main", "--mode=evaluate", f"--workdir={path}", override])
    assert (str(command.path), command.overrides) == (str(path), [override])
