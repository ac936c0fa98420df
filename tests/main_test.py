"""What a command line comes to; whole ones are in commands_test.py."""

import argparse
import json
import os

import pytest
from etils import epath

from jaxlung import job, main
from jaxlung.commands import arguments, study
from jaxlung.config import config_file
from jaxlung.study import runner
from tests.report import report_summary


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
    args = argparse.Namespace(command="train", config="covidqu:quick", workdir=workdir)
    _, path = arguments.load_config(args, [])
    assert str(path) == want.format(here=os.path.realpath(tmp_path), home=os.path.expanduser("~"))


@pytest.mark.parametrize("first", [[], ["train"]])
def test_a_command_line_without_a_command_trains(first):
    args, _ = main.parse(["jaxlung", *first, "--config=covidqu:quick", "--dry_run"])
    assert (args.command, args.dry_run, args.config) == ("train", True, "covidqu:quick")


def test_fields_of_the_config_may_be_empty_and_hold_blanks():
    args = argparse.Namespace(command="train", config="folder", workdir=None)
    config, _ = arguments.load_config(args, ["--config.data.csv=", "--config.data.root=my images"])
    assert (config.data.csv, config.data.root) == ("", "my images")


def test_a_studys_folder_is_named_after_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(runner, "run", lambda study, configs, path, **numbers: seen.append(path))
    _, start = main.parse(["jaxlung", "study", "alphas:phantom"])
    assert start() == 0
    assert [str(path) for path in seen] == [os.path.realpath(tmp_path) + "/studies/alphas_phantom"]


def test_help_names_what_is_shipped_and_every_command(capsys):
    with pytest.raises(SystemExit):
        main.parse(["jaxlung", "--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {name}" in text for name in main.COMMANDS)
    for name in config_file.shipped_configs():
        assert name in main.COMMANDS["train"].EPILOG
    for name in config_file.shipped_studies():
        assert name in study.EPILOG
    assert "studies" not in config_file.shipped_configs()
    assert not set(config_file.shipped_configs()) & set(config_file.shipped_studies())


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_the_examples_in_the_help_of_a_command_are_right(name, monkeypatch):
    lines = main.COMMANDS[name].EPILOG.splitlines()
    examples = [line for line in lines if line.startswith("jaxlung ")]
    assert examples
    for example in examples:
        args, _ = main.parse(example.split())
        assert args.command == name


def test_a_report_comes_with_a_model_card(tmp_path):
    content = report_summary.make("diagnosis", {"auc": 0.9, "accuracy": 0.81234})
    (tmp_path / "summary_test.json").write_text(json.dumps(content))
    _, start = main.parse(["jaxlung", "report", str(tmp_path)])
    assert start() == 0
    for name in ("report.html", "MODEL_CARD.md"):
        assert "0.8123" in (tmp_path / name).read_text()


def test_a_field_of_the_runs_own_config_is_set_to_evaluate_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(job, "run_evaluate", lambda *args: seen.append(args))
    override = "--config.data.root=moved"
    _, start = main.parse(["jaxlung", "evaluate", f"--workdir={tmp_path}", override])
    assert start() == 0
    assert seen == [(None, epath.Path(tmp_path), "test", [override])]
