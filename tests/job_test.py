"""The whole job on phantoms: train, evaluate, report; again, it does nothing."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung import job
from jaxlung.benchmark import dry_run
from jaxlung.config import config_file, run_files, workdir
from jaxlung.data import record
from jaxlung.data.feed import order
from jaxlung.data.sources import derived
from jaxlung.evaluation import evaluate
from jaxlung.host import progress_file
from jaxlung.report import model_card
from jaxlung.training import checkpoint
from jaxlung.training import loop as train
from tests import array_source


def make_config(data_dir):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.data_dir = str(data_dir)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    config = make_config(folder / "data")
    job.run(config, epath.Path(folder / "run"))
    return config, folder / "run"


@pytest.mark.slow
def test_a_folder_of_ones_own_goes_the_same_way(tmp_path):
    """The binary task, images of several sizes, masks with a suffix, patients in the names."""
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for index in range(12):
        item = array_source.ArraySource(1, size=30 + index, seed=index)[0]
        name = f"p{index // 2}_{index}"
        Image.fromarray(item.image).save(root / "images" / f"{name}.jpg")
        lung = (item.mask & record.LUNG) * np.uint8(255)
        Image.fromarray(lung).save(root / "masks" / f"{name}_lung.png")
    config = config_file.load(config_file.resolve("folder:quick"))
    config.epochs = 1
    config.data.update(root=str(root), mask_suffix="_lung", patient_pattern=r"^(p\d)_")
    path = tmp_path / "run"
    job.run(config, epath.Path(path))
    summary = json.loads((path / "summary_test.json").read_text())
    assert summary["levels"] == ["background", "lung"]
    assert summary["num_images"] == 2
    assert {"dice", "dice_stored", "iou_stored", "hd95"} <= set(summary["scores"])
    assert "dice_stored" in summary["baselines"]["mean_mask"]["scores"]
    assert len({row["patient_id"] for row in read_csv(path / "scores_test.csv")}) == 1
    assert (path / "report.html").exists()


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_workdir_holds_everything(finished):
    _, path = finished
    names = {file.name for file in path.iterdir()}
    splits = ("train", "validation", "test")
    assert names >= {
        "config.json",
        "checkpoints",
        "metrics.csv",
        "tensorboard",
        "figures",
        "report.html",
        "MODEL_CARD.md",
        "splits.csv",
        "panels_test.npz",
        *(f"scores_{split}.csv" for split in splits),
        *(f"summary_{split}.json" for split in splits),
    }
    assert not [name for name in names if name.endswith(".tmp")]


def test_the_run_says_in_a_file_that_it_is_finished_and_how_far_it_got(finished):
    config, path = finished
    found = progress_file.load(path / "progress.json")
    assert (found.phase, found.detail) == ("finished", "")
    assert found.epoch == found.epochs == config.epochs
    assert found.step == found.steps > 0
    last = read_csv(path / "metrics.csv")[-1]
    assert (str(found.loss), str(found.score)) == (last["loss"], last[f"val_{found.score_name}"])
    assert ", cpu" in found.where


def test_every_image_of_every_split_is_scored_once(finished):
    _, path = finished
    listed = read_csv(path / "splits.csv")
    for split in ("train", "validation", "test"):
        rows = read_csv(path / f"scores_{split}.csv")
        want = sorted(row["image_id"] for row in listed if row["split"] == split)
        assert sorted(row["image_id"] for row in rows) == want
        summary = json.loads((path / f"summary_{split}.json").read_text())
        assert summary["num_images"] == len(rows)
        mean = np.mean([float(row["mae"]) for row in rows])
        np.testing.assert_allclose(summary["scores"]["mae"], mean, rtol=1e-6)
        groups = summary["by_group"]
        assert {"COVID-19", "Non-COVID", "Normal"} == set(groups)
        assert sum(group["num_images"] for group in groups.values()) == len(rows)
        assert set(summary["baselines"]) == {"threshold", "mean_mask"}


def test_panels_are_what_the_scores_say(finished):
    _, path = finished
    rows = {row["image_id"]: row for row in read_csv(path / "scores_test.csv")}
    panels = np.load(path / "panels_test.npz", allow_pickle=False)
    for image_id, score, raw, pred in zip(
        panels["image_id"], panels["score"], panels["raw"], panels["pred"], strict=True
    ):
        np.testing.assert_allclose(score, float(rows[str(image_id)]["f1_macro"]))
        np.testing.assert_array_equal(
            pred, np.select([raw > 190 / 255, raw > 62.5 / 255], [255, 125], 0)
        )
    best = max(rows.values(), key=lambda row: float(row["f1_macro"]))
    assert panels["score"][0] == float(best["f1_macro"])


def test_a_finished_run_does_nothing(finished, caplog):
    config, path = finished
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.suffix != ".json"}
    with caplog.at_level("INFO", logger="absl"):
        job.run(config, epath.Path(path))
    assert "this run is finished" in caplog.text
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_the_model_card_is_made_from_the_files_alone(finished):
    _, path = finished
    before = (path / model_card.FILE).read_text()
    (path / model_card.FILE).unlink()
    assert model_card.write(path).read_text() == before
    assert "Trained on generated images" in before
    macro_f1 = json.loads((path / "summary_test.json").read_text())["scores"]["f1_macro"]
    assert f"| F1: macro | {macro_f1:.4f} (" in before


@pytest.mark.slow
def test_evaluating_an_unfinished_run_does_not_finish_it(finished, tmp_path):
    config, _ = finished
    path = epath.Path(tmp_path)
    splits = job.open_splits(config, path)
    workdir.open_for(config, path)
    with pytest.MonkeyPatch.context() as patch:
        # Stops after the first epoch, as a signal would.
        patch.setattr(order, "steps_after_epochs", lambda *_: 7)
        assert train.train(config, path, splits)
    job.run_evaluate(None, path, "test")
    assert run_files.load_summary(path, "test").step == 7
    job.run(config, path)
    assert {summary.step for summary in run_files.load_summaries(path)} == {13}


def warnings_of_shared(caplog, test, **changes):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.update_from_flattened_dict({"selection": "last"} | changes)
    with caplog.at_level("WARNING"):
        job.warn_of_shared({"validation": array_source.ArraySource(3), "test": test}, config)
    return caplog.messages


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"selection": "best", "control.stop_patience": 2}, "the checkpoint, the end of training"),
        ({"control.plateau_patience": 2}, "the learning rate"),
    ],
)
def test_test_images_that_choose_the_checkpoint_or_the_rate_are_told(changes, chosen, caplog):
    (message,) = warnings_of_shared(caplog, array_source.ArraySource(4), **changes)
    want = f"3 of 4 test images are also validation images, which choose {chosen}: test scores"
    assert message.startswith(want)


def test_test_images_that_choose_nothing_or_do_not_validate_are_not_told(caplog):
    apart = derived.Subset(array_source.ArraySource(6), [3, 4, 5])
    assert not warnings_of_shared(caplog, array_source.ArraySource(4))
    assert not warnings_of_shared(caplog, apart, selection="best")


def test_a_diagnosis_does_not_validate_on_covid_alone(tmp_path):
    config = config_file.load(config_file.resolve("v7_diagnosis:quick"))
    config.data.update(protocol="paper", data_dir=str(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"got 'paper', .* all have COVID-19, .* paper_both"):
        job.run(config, epath.Path(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("phantom_images", "folds", "command"),
    [
        (0, 0, r"--config=v7_lungs, "),
        (0, 5, r"--config=v7_lungs:fold=0,folds=5, "),
        (60, 0, r"--config=v7_lungs:quick, "),
        (1500, 3, r"--config=v7_lungs:fold=0,folds=3,phantom, "),
        (70, 0, r"--config=v7_lungs:phantom --config\.data\.phantom_images=70, "),
    ],
)
def test_a_lung_run_that_is_not_there_is_told_before_data_are_read(
    phantom_images, folds, command, tmp_path
):
    config = config_file.load(config_file.resolve("v7_diagnosis:lungs=predicted,quick"))
    config.lungs_run = str(tmp_path / "lungs")
    config.data.update(phantom_images=phantom_images, folds=folds)
    config.data.data_dir = str(tmp_path / "data")
    with pytest.raises(ValueError, match=f"lungs_run: .*lungs holds no finished run.*{command}"):
        job.run(config, epath.Path(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_a_run_does_not_go_on_with_other_data(finished):
    _, path = finished
    listed = path / "splits.csv"
    before = listed.read_text()
    listed.write_text(before.replace(",test\n", ",train\n", 1))
    with pytest.raises(ValueError, match=r"splits.csv: the data have changed .* in 2 rows"):
        job.run_evaluate(None, epath.Path(path), "test")
    listed.write_text(before)


def test_a_bad_setting_is_told_before_data_are_read(finished, tmp_path):
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.update(image_size=33, data_dir=str(tmp_path / "data"))
    with pytest.raises(ValueError, match="got images of 33 x 33"):
        job.run(config, epath.Path(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_evaluating_again_gives_the_same_scores(finished):
    _, path = finished
    before = (path / "scores_validation.csv").read_text()
    job.run_evaluate(None, epath.Path(path), "validation")
    assert (path / "scores_validation.csv").read_text() == before


def test_an_unknown_split_and_an_untrained_run_are_errors(finished, tmp_path):
    config, path = finished
    with pytest.raises(ValueError, match="'tset', want one of train, validation, test"):
        job.run_evaluate(None, epath.Path(path), "tset")
    with pytest.raises(ValueError, match="there is no checkpoint; train first"):
        evaluate.evaluate(config, epath.Path(tmp_path), {}, ["test"])


def test_a_dry_run_needs_no_data_and_counts_like_paper_and_pencil():
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.data.phantom_images = 0
    costs = dry_run.dry_run(config)
    assert json.loads(json.dumps(costs)) == costs
    assert costs["parameters"] == 1678
    # Multiplications and additions of all convolutions at 32 x 32 and 16 x 16; forward, and
    # twice as much backward but for the first layer's input. The rest (BatchNorm, ReLU, loss,
    # Adam) is small channels' large share: between one and three times as much in all.
    full, half = 32 * 32, 16 * 16
    convolutions = 9 * (1 * 4 + 4 * 4 + 8 * 4 + 4 * 4) * full + 4 * full
    convolutions += 9 * (4 * 8 + 8 * 8) * half + 4 * 8 * 4 * half
    forward_and_backward = 3 * 2 * convolutions
    assert 0.9 < costs["flops_per_image"] / forward_and_backward < 3
    assert costs["memory_bytes"] > 4 * 3 * 1678


def test_a_run_trained_anew_in_a_finished_folder_is_not_finished(finished, tmp_path):
    config, path = finished
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(path, copy)
    assert job.is_finished(copy, config.selection)
    weights = checkpoint.selected_weights(config.selection, copy)
    for text in ("", "[]", "12", "13 of_other_weights", f"12 {weights}", f"13 {weights} more"):
        (copy / job.FINISHED).write_text(text)
        assert not job.is_finished(copy, config.selection), text
    (copy / job.FINISHED).write_text("13\n")  # As earlier versions wrote it.
    assert job.is_finished(copy, config.selection)
    (copy / "checkpoints").rename(copy / "elsewhere")
    assert not job.is_finished(copy, config.selection)


def test_splits_that_were_scored_with_other_weights_are_named(finished, caplog):
    _, path = finished
    train, validation, test = run_files.load_summaries(epath.Path(path))
    job.warn_of_stale([train, validation, test])
    assert not caplog.text
    job.warn_of_stale([dataclasses.replace(train, weights_digest="other"), validation, test])
    assert "summary_train.json (step 13) is of other weights than summary_test.json" in caplog.text


def test_evaluating_prepares_nothing_where_a_config_json_says(finished, tmp_path):
    """A run from somebody else writes into its own folder alone, unless told otherwise."""
    config, path = finished
    copy = epath.Path(tmp_path / "copy")
    shutil.copytree(path, copy)
    content = json.loads((copy / "config.json").read_text())
    content["data"]["data_dir"] = str(tmp_path / "theirs")
    (copy / "config.json").write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match=r"--config\.data\.data_dir=FOLDER"):
        job.run_evaluate(None, copy, "validation")
    with pytest.raises(FileNotFoundError):
        job.run_evaluate(None, copy, "validation", ["--config.data.num_threads=1"])
    assert not (tmp_path / "theirs").exists()
    job.run_evaluate(None, copy, "validation", [f"--config.data.data_dir={config.data.data_dir}"])
    assert workdir.load_config(copy).data.data_dir == config.data.data_dir


def test_only_what_is_free_to_change_is_overridden(finished):
    _, path = finished
    with pytest.raises(ValueError, match="holds a run of another config: seed is 0 there and 7"):
        job.run_evaluate(None, epath.Path(path), "test", ["--config.seed=7"])
    with pytest.raises(ValueError, match=r"--config\.data\.data_dri: .* nearest: --config\.data\."):
        job.run_evaluate(None, epath.Path(path), "test", ["--config.data.data_dri=x"])


def test_the_console_says_how_many_have_a_score():
    part = {"scores": {"dice": 0.5, "hd95": 3.21}, "undefined": {"hd95": 2}}
    assert job.spell_score("hd95", part, 40) == "hd95 3.2100 (n = 38)"
    assert job.spell_score("dice", part, 40) == "dice 0.5000"
