"""Studies: what a file may say, two tiny runs and their table, resumed without training again."""

import csv
import dataclasses
import json
import logging as std_logging
import os
import re

import ml_collections as mlc
import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung import main
from jaxlung.config import config_file, workdir
from jaxlung.study import outputs, results, runner, schedule, study, study_file, sweep

STUDY = study.Study(
    title="Two | seeds",
    runs=(
        study.Run("zero", "seed 0", "covidqu:quick", {"epochs": 1}),
        study.Run("one", "seed 1", "covidqu:quick", {"epochs": 1, "seed": 1}),
    ),
    columns=("mae", "iou_macro", "no_such_score"),
    paper=(study.PaperRow("table 1", {"mae": 102168.546}, in_chart=False),),
    notes=("A note.",),
    images=(181, 182, 184),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    path = epath.Path(folder / "study")
    overrides = [f"--config.data.data_dir={folder / 'data'}"]
    configs = study_file.make_configs(STUDY, path, overrides)
    with pytest.MonkeyPatch.context() as patch:  # For the runs' processes.
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        assert runner.run(STUDY, configs, path, at_once=2)
        yield configs, path


def read_rows(path):
    with (path / "study.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_table_has_each_runs_scores_intervals_and_last_losses(finished):
    _, path = finished
    rows = {row["run"]: row for row in read_rows(path) if row["source"] == "run"}
    assert list(rows) == ["zero", "one"]
    for name, row in rows.items():
        summary = json.loads((path / f"runs/{name}/summary_test.json").read_text())
        low, high = summary["intervals"]["mae"]
        want = [summary["scores"]["mae"], low, high]
        assert [float(row[key]) for key in ("mae", "mae_low", "mae_high")] == want
        with (path / f"runs/{name}/metrics.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert row["loss_train"] == last["loss"]
        assert row["loss_validation"] == last["val_loss"]
        assert row["no_such_score"] == row["no_such_score_low"] == ""
    assert rows["zero"]["mae"] != rows["one"]["mae"]


@pytest.mark.slow
def test_runs_that_start_together_compile_each_program_once(finished):
    _, path = finished
    logs = [(path / f"runs/{name}/log.txt").read_text() for name in ("zero", "one")]
    pattern = r"(\d+) programs compiled, (\d+) read from the cache"
    counts = [tuple(map(int, re.search(pattern, log).groups())) for log in logs]
    kept = [file.name for file in (path.parent / "compiled").glob("*-cache")]
    assert sum(compiled for compiled, _ in counts) == len(kept) > 1
    assert len({sum(count) for count in counts}) == 1  # Both used the same programs.
    assert sum(name.startswith("jit_step_fn") for name in kept) == 1


@pytest.mark.slow
def test_the_papers_numbers_stand_in_rows_of_their_own(finished):
    _, path = finished
    paper = [row for row in read_rows(path) if row["source"] == "paper"]
    assert [(row["label"], row["mae"], row["iou_macro"]) for row in paper] == [
        ("table 1", "102168.546", "")
    ]
    text = (path / "study.md").read_text()
    assert "| *paper: table 1* | 102168.546 |" in text


@pytest.mark.slow
def test_the_markdown_says_what_was_run_and_on_what(finished):
    _, path = finished
    text = (path / "study.md").read_text()
    assert text.startswith("# Two | seeds\n")
    scores = text.split("## Differences")[0]
    table = [line for line in scores.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 + 1
    assert len({line.count("|") for line in table}) == 1
    assert "| MAE (lower is better): seed 1 against seed 0 |" in text
    assert "- A note." in text
    assert "phantoms" in text
    assert "epochs = 1, seed = 1" in text
    assert "The study asks for no. 181, 182 and 184, but the split has only" in text
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(links) == 5
    assert all((path / link).exists() for link in links)


@pytest.mark.slow
def test_figures_are_pictures(finished):
    _, path = finished
    for name in ("study.png", "figures/outputs.png"):
        with Image.open(path / name) as image:
            assert min(image.size) > 200


@pytest.mark.slow
def test_again_only_what_is_missing_is_done(finished):
    configs, path = finished
    before = {name: (path / name).read_text() for name in ("study.md", "study.csv")}
    stamps = {name: stamp(path / "runs" / name) for name in configs}
    for name in ("finished.txt", "summary_test.json"):
        (path / "runs/zero" / name).unlink()
    assert runner.run(STUDY, configs, path)
    assert {name: (path / name).read_text() for name in before} == before
    after = {name: stamp(path / "runs" / name) for name in configs}
    assert after["one"] == stamps["one"]
    assert after["zero"]["summary_test.json"] > stamps["zero"]["summary_test.json"]
    for name in ("metrics.csv", "summary_train.json"):  # Scored again, not trained again.
        assert after["zero"][name] == stamps["zero"][name]


def stamp(path):
    """When the run's files were written; its lock and config are, by every call."""
    files = [file for file in path.iterdir() if file.name not in ("lock", "config.json")]
    return {file.name: os.stat(file).st_mtime_ns for file in files}


@pytest.mark.slow
def test_outputs_are_those_of_the_runs_own_images(finished):
    """Predicted for the table, against what the run's report drew from the same checkpoint."""
    configs, path = finished
    found = [
        results.load(run, configs[run.name], path / "runs" / run.name, "test") for run in STUDY.runs
    ]
    num_images = found[0].summary.num_images
    got = outputs.collect(tuple(range(1, num_images + 1)), found)
    assert got.numbers == tuple(range(1, num_images + 1))
    for index, run in enumerate(STUDY.runs):
        with np.load(path / f"runs/{run.name}/panels_test.npz") as panels:
            places = [got.image_ids.index(image_id) for image_id in panels["image_id"]]
            np.testing.assert_array_equal(got.images[places], panels["image"])
            np.testing.assert_array_equal(got.targets[places], panels["target"])
            np.testing.assert_allclose(got.probs[index][places], panels["raw"], atol=1e-6)


@pytest.fixture
def run_with(monkeypatch, tmp_path):
    """Runs the study with a scheduler that returns given states of the two runs."""

    def run(*states):
        path = epath.Path(tmp_path)

        def end(tasks, pool, *, show, **settings):
            pairs = zip(tasks, states, strict=True)
            statuses = [schedule.Status(task, state, reason="no luck") for task, state in pairs]
            show(statuses)
            return statuses

        monkeypatch.setattr(schedule, "run", end)
        return runner.run(STUDY, study_file.make_configs(STUDY, path), path)

    return run


@pytest.mark.parametrize("state", [schedule.STOPPED, schedule.WAITING, schedule.HELD])
def test_a_stopped_run_stops_the_study(run_with, state, tmp_path, caplog):
    (tmp_path / "finished.txt").write_text("of an earlier study with fewer runs")
    with caplog.at_level(std_logging.INFO, logger="absl"):
        assert not run_with(schedule.FAILED, state)
    assert "the study stopped; run the same command to resume" in caplog.text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs", "study.json"]


def test_a_failed_run_makes_no_table(run_with, tmp_path):
    with pytest.raises(ChildProcessError, match=r"^1 of 2 runs failed \(one\), for the reason"):
        run_with(schedule.FINISHED, schedule.FAILED)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs", "study.json"]


def test_a_run_waits_for_the_runs_whose_folders_its_config_names(tmp_path):
    path = epath.Path(tmp_path)
    got = study_file.load(config_file.resolve("diagnosis_lungs:quick", "study"))
    tasks = runner.make_tasks(got, study_file.make_configs(got, path), path)
    assert {task.name: task.needs for task in tasks} == {
        "v7_lungs": (),
        "none": (),
        "predicted": ("v7_lungs",),
        "true": (),
    }


@pytest.mark.parametrize("needed", ["one", "two"])
def test_a_run_that_needs_itself_or_a_later_one_is_refused(needed, tmp_path):
    path = epath.Path(tmp_path)
    uses = {"init_from": f"{{runs}}/{needed}"}
    runs = (study.Run("one", "1", "covidqu:quick", uses), study.Run("two", "2", "covidqu:quick"))
    made = study.Study("t", runs, ("mae",))
    message = f"run one: it uses the results of run {needed}, want a run before it"
    with pytest.raises(ValueError, match=message):
        runner.make_tasks(made, study_file.make_configs(made, path), path)


def test_bad_runs_are_told_before_the_first_starts(run_with, tmp_path):
    folder = tmp_path / "runs" / "one"
    (folder / "checkpoints" / "3").mkdir(parents=True)
    config = config_file.load(config_file.resolve("covidqu:quick"))
    workdir.open_for(config, epath.Path(tmp_path / "other"))
    (tmp_path / "other" / "config.json").rename(folder / "config.json")
    with pytest.raises(ValueError, match="holds a run of another config: epochs is 2 there and 1"):
        run_with(schedule.FINISHED, schedule.FINISHED)


def test_lungs_that_no_run_has_found_are_told_before_the_first_run_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(schedule, "run", lambda *args, **settings: pytest.fail("it started"))
    monkeypatch.chdir(tmp_path)
    made = study_file.from_config("v7_diagnosis:lungs=predicted,folds=2,quick")
    path = epath.Path(tmp_path / "study")
    with pytest.raises(ValueError, match=r"train .* with --config=v7_lungs:fold=0,folds=2,quick"):
        runner.run(made, study_file.make_configs(made, path), path)


def test_a_folder_that_is_not_there_is_told_before_the_first_run_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(schedule, "run", lambda *args, **settings: pytest.fail("it started"))
    overrides = {"data.root": str(tmp_path / "nowhere"), "epochs": 2, "selection": "last"}
    run = study.Run("net", "network", "folder:quick", overrides)
    swept = sweep.Sweep({"optimizer.learning_rate": (1e-3, 1e-2)})
    for made in (
        study.Study("One", (run,), ("dice",)),
        study.Study("Several", study.vary(run, swept), ("dice",), sweep=swept),
    ):
        path = epath.Path(tmp_path / made.title)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            runner.run(made, study_file.make_configs(made, path), path)


@pytest.mark.parametrize(
    ("num_images", "want"),
    [(184, (181, 182, 184)), (183, (31, 92, 153)), (6, (2, 4, 6)), (2, (1, 2)), (1, (1,))],
)
def test_images_that_a_split_lacks_are_replaced_evenly(num_images, want):
    assert outputs.choose((181, 182, 184), num_images) == want


PHANTOMS = [name for name in config_file.shipped_studies() if name != "folder_recipe"]


@pytest.mark.parametrize("arg", ["", "phantom", "quick"])
@pytest.mark.parametrize("name", PHANTOMS)
def test_every_shipped_study_has_configs_and_knows_its_scores(name, arg, tmp_path):
    spec = config_file.resolve(f"{name}:{arg}" if arg else name, "study")
    got = study_file.load(spec)
    configs = study_file.make_configs(got, epath.Path(tmp_path))
    assert list(configs) == [run.name for run in got.runs]
    assert all(isinstance(config, mlc.ConfigDict) for config in configs.values())
    phantoms = {config.data.phantom_images > 0 for config in configs.values()}
    assert phantoms == {bool(arg)}
    assert {key for row in got.paper for key in row.scores} <= set(got.columns)


def test_the_losses_and_alphas_are_those_named(tmp_path):
    path = epath.Path(tmp_path)
    losses = study_file.load(config_file.resolve("covidqu_losses", "study"))
    tasks = [config.task for config in study_file.make_configs(losses, path).values()]
    assert [task.loss for task in tasks] == ["bce", "bce_iou"]
    alphas = study_file.load(config_file.resolve("alphas", "study"))
    tasks = [config.task for config in study_file.make_configs(alphas, path).values()]
    mixed = [task.alpha for task in tasks if task.loss == "bce_iou"]
    assert mixed == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert [tasks[0].loss, tasks[-1].loss] == ["iou", "bce"]


def test_zhangs_other_trainings_are_those_told(tmp_path):
    path = epath.Path(tmp_path)
    images = study_file.load(config_file.resolve("v7_lungs_images", "study"))
    configs = study_file.make_configs(images, path)
    assert [c.data.max_train_per_class for c in configs.values()] == [0, 500]
    assert {c.data.protocol for c in configs.values()} == {"paper"}
    assert images.split == "validation"
    crops = study_file.load(config_file.resolve("diagnosis_crops", "study"))
    configs = study_file.make_configs(crops, path)
    assert [c.task.crop_pixels for c in configs.values()] == [(10, 10, 10), (20, 20, 0)]


def test_predicted_lungs_come_from_the_studys_own_run(tmp_path):
    got = study_file.load(config_file.resolve("diagnosis_lungs", "study"))
    configs = study_file.make_configs(got, epath.Path(tmp_path))
    assert next(iter(configs)) == "v7_lungs"
    assert configs["predicted"].lungs_run == str(tmp_path / "runs/v7_lungs")
    assert [configs[n].task.lungs for n in ("none", "predicted", "true")] == [
        "none",
        "predicted",
        "true",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "covidqq"}, "run x: --config: no file 'covidqq'"),
        ({"overrides": {"task.alpha": 1}}, "run x: --config.task.alpha: the config has no such"),
        ({"overrides": {"seed": "many"}}, "run x: .*seed"),
    ],
)
def test_a_run_that_can_not_be_is_named(changes, message, tmp_path):
    run = dataclasses.replace(study.Run("x", "x", "covidqu:quick"), **changes)
    with pytest.raises(ValueError, match=message):
        study_file.make_configs(study.Study("t", (run,), ("mae",)), epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runs": ()}, "no run"),
        ({"runs": (STUDY.runs[0], STUDY.runs[0])}, "want different names"),
        ({"runs": (study.Run("../x", "x", "covidqu"),)}, r"got run '\.\./x'"),
        ({"columns": ()}, "no columns"),
        ({"images": (0, 1)}, "want numbers from 1"),
    ],
)
def test_a_study_that_can_not_be_says_so(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(STUDY, **fields)


def test_overrides_of_the_command_line_reach_every_run(tmp_path):
    arguments = ["--config.epochs=7", "--config.model.widths=(2, 4)"]
    configs = study_file.make_configs(STUDY, epath.Path(tmp_path), arguments)
    assert {config.epochs for config in configs.values()} == {7}
    assert {config.model.widths for config in configs.values()} == {(2, 4)}
    with pytest.raises(ValueError, match=r"nearest: --config\.epochs"):
        study_file.make_configs(STUDY, epath.Path(tmp_path), ["--config.epoch=7"])


@pytest.mark.parametrize(
    ("argument", "field", "want"),
    [
        ("--config.data.download=true", "download", True),
        ("--config.data.raw_dir=1", "raw_dir", "1"),
        ("--config.data.image_size=64", "image_size", 64),
    ],
)
def test_overrides_keep_the_type_of_their_field(argument, field, want, tmp_path):
    configs = study_file.make_configs(STUDY, epath.Path(tmp_path), [argument])
    assert [config.data[field] for config in configs.values()] == [want, want]
    assert isinstance(configs["one"].data[field], type(want))


@pytest.mark.parametrize("text", ["many", "", "1.5", "(1,", "none()"])
def test_an_override_of_another_type_says_what_is_wanted(text, tmp_path):
    with pytest.raises(ValueError, match=rf"epochs={re.escape(text)}: invalid literal for int"):
        study_file.make_configs(STUDY, epath.Path(tmp_path), [f"--config.epochs={text}"])


def test_fields_on_the_command_line_are_set_for_all_runs(monkeypatch):
    made = {}
    monkeypatch.setattr(
        study_file, "make_configs", lambda study, path, overrides: made.update(overrides=overrides)
    )
    args, _ = main.parse(["jaxlung", "study", "alphas", "--config.epochs=7"])
    assert args.study == "alphas"
    assert made == {"overrides": ["--config.epochs=7"]}
