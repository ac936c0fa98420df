"""Folds and seeds of a config as a study, with the command that runs them."""

import os

import pytest
from etils import epath

from jaxlung import main
from jaxlung.benchmark import dry_run
from jaxlung.config import config_file
from jaxlung.study import runner, study, study_file
from jaxlung.tasks import words


def configs_of(spec, path, overrides=()):
    made = study_file.from_config(spec)
    return made, study_file.make_configs(made, epath.Path(path), overrides)


def test_folds_are_runs_of_one_group(tmp_path):
    made, configs = configs_of("folder:target=infection,folds=3", tmp_path)
    assert list(configs) == ["fold_0", "fold_1", "fold_2"]
    for fold, config in enumerate(configs.values()):
        want = config_file.load(config_file.resolve(f"folder:target=infection,fold={fold},folds=3"))
        assert config == want
    assert {run.group for run in made.runs} == {"all folds"}
    assert made.title == "Cross-validation over 3 folds: folder:target=infection"
    assert made.columns == words.find("mask").headlines
    assert made.paper == ()
    assert "split by patient" in made.notes[0]


@pytest.mark.parametrize("name", list(config_file.shipped_configs()))
def test_every_shipped_config_has_seeds(name, tmp_path):
    made, configs = configs_of(f"{name}:quick,seeds=3", tmp_path)
    alone = config_file.load(config_file.resolve(f"{name}:quick"))
    assert list(configs) == ["seed_0", "seed_1", "seed_2"]
    for seed, config in enumerate(configs.values()):
        alone.seed = seed
        assert config == alone
    assert {run.group for run in made.runs} == {"all seeds"}
    assert made.title == f"3 seeds: {name}:quick"
    assert made.columns == words.find(alone.task_name).headlines


def test_both_are_all_combinations_and_more_seeds_keep_the_folders(tmp_path):
    _, few = configs_of("folder:folds=2", tmp_path)
    made, configs = configs_of("folder:folds=2,seeds=2", tmp_path)
    got = [(config.data.fold, config.data.folds, config.seed) for config in configs.values()]
    assert got == [(0, 2, 0), (0, 2, 1), (1, 2, 0), (1, 2, 1)]
    assert {run.group for run in made.runs} == {"all folds"}
    assert all(configs[name] == config for name, config in few.items())
    assert made.title == "Cross-validation over 2 folds, 2 seeds: folder"
    assert list(configs_of("cxr_lungs:seeds=1", tmp_path)[1]) == ["seed_0"]


def test_seeds_of_one_fold_are_seeds(tmp_path):
    made, configs = configs_of("folder:fold=1,folds=5,seeds=2", tmp_path)
    assert [(c.data.fold, c.seed) for c in configs.values()] == [(1, 0), (1, 1)]
    assert made.title == "2 seeds: folder:fold=1,folds=5"


def test_a_papers_scores_are_shown_where_they_are_columns():
    made = study_file.from_config("cxr_lungs:seeds=2")
    # Its accuracy, 0.95, is no main score.
    assert made.paper == (study.PaperRow("test split", {"mean_iou": 0.95308775}),)
    assert "Bartels et al." in made.notes[1]
    ct = study_file.from_config("covid19_ct:folds=5").paper
    assert ct == (study.PaperRow("test split", {"dice": 0.7627}),)


def test_fields_of_the_command_line_are_set_in_all_runs(tmp_path):
    _, configs = configs_of("folder:folds=2", tmp_path, ["--config.epochs=7"])
    assert {config.epochs for config in configs.values()} == {7}
    with pytest.raises(ValueError, match="do not set seed or fold for all runs"):
        configs_of("folder:seeds=2", tmp_path, ["--config.seed=7"])


def test_a_config_outside_of_jaxlung_is_named_by_its_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(config_file.shipped_configs()["folder"].read_text())
    made, configs = configs_of(f"{path}:folds=2", tmp_path)
    assert made.title == "Cross-validation over 2 folds: mine"
    assert made.runs[0].config == f"{path}:fold=0,folds=2"
    assert configs["fold_1"].data.fold == 1


@pytest.fixture
def started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(
        runner,
        "run",
        lambda study, configs, path, **sharing: seen.append((list(configs), str(path), sharing)),
    )
    return seen


@pytest.mark.parametrize(
    ("spec", "folder", "number"),
    [
        ("folder:folds=5", "folder_folds", 5),
        ("cxr_lungs:seeds=4", "cxr_lungs_seeds", 4),
        (
            "folder:seeds=2,target=infection,folds=3,quick",
            "folder_target_infection_quick_folds_seeds",
            6,
        ),
    ],
)
def test_train_runs_them_in_a_folder_of_their_name(spec, folder, number, started, tmp_path):
    args, start = main.parse(["jaxlung", "train", f"--config={spec}", "--at_once=3"])
    assert args.is_study
    assert start() == 0
    ((names, path, sharing),) = started
    assert len(names) == number
    assert path == f"{os.path.realpath(tmp_path)}/runs/{folder}"
    assert sharing == {"devices_per_run": None, "at_once": 3}


def test_one_fold_of_a_cross_validation_is_one_run(started):
    args, _ = main.parse(["jaxlung", "train", "--config=folder:fold=0,folds=5"])
    assert not args.is_study
    assert started == []


def test_a_dry_run_is_of_one_run(started, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(dry_run, "dry_run", lambda config: seen.append(config.data.fold) or {})
    args, start = main.parse(["jaxlung", "train", "--config=folder:folds=5", "--dry_run"])
    assert not args.is_study  # It needs the devices.
    assert start() == 0
    assert (seen, capsys.readouterr().out) == ([0], "{}\n")


@pytest.mark.parametrize(
    ("words_given", "message"),
    [
        (["--config=covidqu:folds=5"], "COVID-QU-Ex is published with its splits"),
        (["--config=cxr_lungs:seeds=2,phantm"], "got 'phantm', want one of fold, folds, phantom"),
        (["--config=cxr_lungs:seeds=0"], "seeds: got 0, want 1 or more"),
        (["--config=foldr:folds=5"], "no file 'foldr'"),
        (["--config=folder:folds=5", "--coordinator=h:1"], "got it with folds, whose runs"),
        (
            ["--config=folder:folds=5", "--workdir=one"],
            "one is the folder of one run, want another",
        ),
        (["--config=folder", "--at_once=2"], "want folds=K or seeds=N after the config's name"),
        (["--config=folder:folds=5", "--config.epoch=3"], "nearest: --config.epochs"),
    ],
)
def test_what_can_not_be_is_refused_in_one_sentence(words_given, message, started, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=message):
        main.parse(["jaxlung", "train", *words_given])


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_other_commands_want_one_run(command):
    with pytest.raises(ValueError, match=r"folder.py:folds=5: want one run, got 5 \(fold=0,"):
        main.parse(["jaxlung", command, "--config=folder:folds=5"])
