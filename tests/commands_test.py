"""Command lines as a user types them: one sentence on stderr, an exit code, no traceback."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from jaxlung import main
from jaxlung.config import config_file
from jaxlung.host import console
from jaxlung.parallel import backend

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = ", ".join(config_file.shipped_configs())
STUDIES = ", ".join(config_file.shipped_studies())


def run(*args, cwd=ROOT, **variables):
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "jaxlung.main", *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["train"], f"want --config=FILE or a name ({CONFIGS})."),
        (["--config.seed=3"], f"want --config=FILE or a name ({CONFIGS})."),
        (["--config=covidqq"], f"and jaxlung ships only {CONFIGS}."),
        (
            ["--config=covidqu:phantm"],
            "got 'phantm', want one of phantom, quick, or seeds=N for several runs.",
        ),
        (
            ["--config=cxr_lungs:seed=4"],
            "got 'seed', want one of fold, folds, phantom, quick, or seeds=N",
        ),
        (["--config=covidqu", "--config.data.batch_sise=3"], "nearest: --config.data.batch_size."),
        (["--config=covidqu", "--config.seed=x"], "--config.seed"),
        (["--config=covidqu", "--wrokdir=x"], "unrecognized arguments: --wrokdir=x"),
        (["--config=covidqu", "--split=test"], "unrecognized arguments: --split=test"),
        (["--config=covidqu", "--work=x"], "unrecognized arguments: --work=x"),
        (["--config=covidqu", "--config="], "argument --config: got nothing, want a value;"),
        (["--config=covidqu", "--workdir", " "], "argument --workdir: got nothing, want a value;"),
        (["--config=covidqu", "extra"], "unrecognized arguments: extra"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--config=covidqu", "--target=h200"], "--target: want --dry_run too;"),
        (
            ["train", "--config=covidqu", "--dry_run", "--target=h200", "--programs=train,eval"],
            "--programs: got 'eval', want some of train, validate, evaluate, predict.",
        ),
        (["evaluate"], "want --workdir of a trained run, or --config."),
        (["evaluate", "--workdir=x", "--split=tst"], "invalid choice: 'tst'"),
        (["predict", "x", "--model=y"], "arguments are required: OUTPUT"),
        (["predict", "", "x", "--model=y"], "argument input: got nothing, want a value;"),
        (["predict", "x", "y", "--model="], "argument --model: got nothing, want a value;"),
        (["predict", "x", "y", "--model=z", "--max_pixels=0"], "want a whole number above 0"),
        (
            ["predict", "x", "y", "--model=z", "--coordinator=h:1"],
            "unrecognized arguments:",
        ),
        (["predict", "x", "y", "--model=z", "--config.seed=1"], "the config of a trained run is"),
        (["export", "x"], "RUN: got none, want the folder of a trained run before FILE"),
        (["report"], "arguments are required: RUN"),
        (["report", "x", "--config=covidqu"], "unrecognized arguments: --config=covidqu"),
        (["study"], "arguments are required: NAME"),
        (["study", "alphas", "--config=covidqu"], "unrecognized arguments: --config=covidqu"),
        (["study", "alpha"], f"NAME: no file 'alpha' in {ROOT}, and jaxlung ships only {STUDIES}."),
        (["study", "alphas:phantm"], "got 'phantm', want one of phantom, quick."),
        (["study", "configs/folder.py"], "has no attribute 'get_study'"),
        (["study", "alphas", "--config.sed=1"], "nearest: --config.seed."),
        (["study", "alphas", "--at_once=0"], "--at_once: got '0', want a whole number above 0"),
        (["study", "alphas", "--devices_per_run=x"], "--devices_per_run: got 'x', want a whole"),
        (["benchmark"], f"want --config=FILE or a name ({CONFIGS})."),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(args, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        main.parse(["jaxlung", *args])


def test_a_wrong_command_line_exits_with_2_before_jax_starts():
    done = run("predict", "x", JAX_PLATFORMS="abacus")
    assert done.returncode == 2
    assert done.stderr.startswith("jaxlung: error: jaxlung predict: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--config=covidqu", "--config.data.data_dir={tmp}/data"], "https://www.kaggle.com/"),
        (["--config=folder", "--config.data.root={tmp}/none"], "{tmp}/none"),
        (["--config=covidqu:quick", "--workdir=/dev/null/run"], "/dev/null"),
        (["evaluate", "--workdir={tmp}"], "{tmp}: not a run's folder"),
        (["export", "{tmp}", "{tmp}/x"], "{tmp}: not a run's folder"),
        (
            ["predict", "{tmp}", "{tmp}/o", "--model={tmp}"],
            "{tmp}",
        ),
        (
            ["train", "--config={root}/configs/covidqu.py", "--dry_run", "--target=h300"],
            "--target: got 'h300', want one of a100, h100, h200, several as h200:8, or v5e,",
        ),
    ],
)
def test_what_goes_wrong_later_returns_1_and_offers_the_traceback(
    args, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    # JAX is started here, and other tests are to see what the libraries log.
    monkeypatch.setattr(backend, "start", lambda cluster, **_: None)
    monkeypatch.setattr(console, "quiet_libraries", lambda: None)
    code = main.main(["jaxlung", *(arg.format(tmp=tmp_path, root=ROOT) for arg in args)])
    told = capsys.readouterr().err
    assert code == 1
    assert sentence.format(tmp=tmp_path) in told
    assert "Traceback" not in told
    assert told.rstrip().endswith("(--debug shows the traceback.)")


def test_what_goes_wrong_later_exits_with_1_and_one_sentence_at_the_end(tmp_path):
    done = run("evaluate", f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert f"{tmp_path}: not a run's folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().endswith("(--debug shows the traceback.)")


def test_a_device_that_is_not_here_is_told_with_the_variables_name(tmp_path):
    done = run("evaluate", f"--workdir={tmp_path}", JAX_PLATFORMS="abacus")
    assert done.returncode == 1
    want = "jaxlung: error: JAX_PLATFORMS: got 'abacus', and JAX finds no such device here ("
    assert done.stderr.startswith(want)
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    done = run("--config=covidqu", "--config.seed=x", "--debug")
    assert "Traceback" in done.stderr
