"""Command lines as a user types them: one sentence on stderr, an exit code, no traceback."""

import os
import pathlib
import subprocess
import sys

import pytest

from jaxlung.config import config_file

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = ", ".join(config_file.shipped_configs())
STUDIES = ", ".join(config_file.shipped_studies())


def run(*args, cwd=ROOT, **variables):
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "jaxlung.main", *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        ([], 2, f"want --config=FILE or a name ({CONFIGS})."),
        (["--mode=evaluate"], 2, "or --workdir of a trained run."),
        (["--config=covidqq"], 2, f"and jaxlung ships only {CONFIGS}."),
        (["--config=covidqu:phantm"], 2, "got 'phantm', want one of phantom, quick."),
        (
            ["--config=covidqu", "--config.data.batch_sise=3"],
            2,
            "nearest: --config.data.batch_size.",
        ),
        (["--config=covidqu", "--config.seed=x"], 2, "--config.seed=x"),
        (["--config=covidqu", "--wrokdir=x"], 2, "Unknown command line flag 'wrokdir'."),
        (["--config=covidqu", "--mode=trian"], 2, "trian"),
        (["--config=covidqu", "--split=test"], 2, "--split: want --mode=evaluate too."),
        (["--mode=evaluate", "--workdir=x", "--dry_run"], 2, "--dry_run: want --config=FILE too."),
        (["--config=covidqu", "extra"], 2, "got 'extra', want only flags"),
        (["--mode=predict", "--workdir=x", "--output=y"], 2, "--mode=predict: want --input too."),
        (["--mode=predict", "--input=x", "--output=y"], 2, "--mode=predict: want --workdir too."),
        (["--mode=export", "--workdir=x"], 2, "--mode=export: want --output too."),
        (["--mode=report", "--workdir=x", "--input=y"], 2, "--input: want --mode=predict too."),
        (["--mode=report", "--workdir=x", "--workdir=y"], 2, "--workdir: got 2, want one with"),
        (["--mode=report", "--workdir=x", "--config=covidqu"], 2, "got --config too; the run's"),
        (["--mode=predict", "--coordinator=h:1"], 2, "--coordinator: want --mode=train or"),
        (
            ["--mode=predict", "--workdir=x", "--input=", "--output=y"],
            2,
            "--input: got nothing, want",
        ),
        (["--config.seed=3"], 2, "want --config=FILE or a name"),
        (["--mode=study"], 2, f"--mode=study: want --study=FILE or a name ({STUDIES}) too."),
        (["--study=alphas"], 2, "--study: want --mode=study too."),
        (["--config=covidqu", "--study=alphas"], 2, "--study: want --mode=study too."),
        (["--mode=study", "--study=alphas", "--config=covidqu"], 2, "--study: got --config too;"),
        (["--mode=study", "--study=alpha"], 2, f"--study: no file 'alpha' in {ROOT}, and jaxlung"),
        (["--mode=study", "--study=alpha"], 2, f"ships only {STUDIES}."),
        (["--mode=study", "--study=alphas:phantm"], 2, "got 'phantm', want one of phantom, quick."),
        (["--mode=study", "--study=configs/folder.py"], 2, "has no attribute 'get_study'"),
        (["--mode=study", "--study=alphas", "--dry_run"], 2, "--dry_run: got --mode=study too,"),
        (
            ["--mode=study", "--study=alphas", "--split=test"],
            2,
            "--split: want --mode=evaluate too.",
        ),
        (["--mode=study", "--study=alphas", "--config.sed=1"], 2, "nearest: --config.seed."),
    ],
)
def test_what_can_not_be_typed_exits_with_2(args, code, sentence):
    done = run(*args)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stderr.startswith("jaxlung: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--config=covidqu", "--config.data.data_dir={tmp}/data"], "https://www.kaggle.com/"),
        (["--config=folder", "--config.data.root={tmp}/none"], "{tmp}/none"),
        (["--config=covidqu:quick", "--workdir=/dev/null/run"], "/dev/null"),
        (["--mode=evaluate", "--workdir={tmp}"], "{tmp}: not a run's folder"),
        (["--mode=export", "--workdir={tmp}", "--output={tmp}/x"], "{tmp}: not a run's folder"),
        (
            ["--mode=predict", "--workdir={tmp}", "--input={tmp}", "--output={tmp}/o"],
            "{tmp}",
        ),
    ],
)
def test_what_goes_wrong_later_exits_with_1_and_offers_the_traceback(args, sentence, tmp_path):
    done = run(*(arg.format(tmp=tmp_path) for arg in args), cwd=tmp_path)
    assert done.returncode == 1
    assert sentence.format(tmp=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().endswith("(--debug shows the traceback.)")


def test_a_device_that_is_not_here_is_told_with_the_variables_name(tmp_path):
    done = run("--mode=evaluate", f"--workdir={tmp_path}", JAX_PLATFORMS="abacus")
    assert done.returncode == 1
    want = "jaxlung: error: JAX_PLATFORMS: got 'abacus', and JAX finds no such device here ("
    assert done.stderr.startswith(want)
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    done = run("--config=covidqu", "--config.seed=x", "--debug")
    assert "Traceback" in done.stderr
